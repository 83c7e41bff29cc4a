#!/usr/bin/env bash
# The whole way, as a user would go it: a fresh server, the Slack integration, a message out, a signed event in. Slack is
# played by a small program on this machine. Exits with 0 only when every step truly happened.
#
#   KEEP=1      leave everything running and say how to reach and stop it
#   WEFT_BIN    use this weft instead of building one; FAKE_SLACK_BIN likewise
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022

dir=$(mktemp -d /tmp/weft-demo.XXXXXX)
# Below it run programs of other accounts when the server is root; what is secret has a folder of its own.
chmod 755 "$dir"
mkdir -m 700 "$dir/private"
server_pid='' slack_pid='' number=0

step() {
  number=$((number + 1))
  printf '\n%s. %s\n' "$number" "$*"
}

say() { printf '   %s\n' "$*"; }

indent() { sed 's/^/   /'; }

fail() {
  printf '\nThe demo failed: %s\n' "$*" >&2
  if [[ -s $dir/server.log ]]; then
    printf 'The last lines of the server:\n' >&2
    tail -n 20 "$dir/server.log" >&2
  fi
  exit 1
}

# Ends a program that was started here, by its id: politely, and after 20 s by force.
stop() {
  local pid=$1 tries
  [[ -n $pid ]] || return 0
  kill "$pid" 2>/dev/null || return 0
  for ((tries = 0; tries < 200; tries++)); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null || true
}

clean_up() {
  stop "$server_pid"
  stop "$slack_pid"
  rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Waits until the file $1 has a line that the sed expression $2 prints, for at most $3 s, while the process $4 lives.
await_line() {
  local file=$1 expression=$2 seconds=$3 pid=$4 line tries
  for ((tries = 0; tries < seconds * 10; tries++)); do
    line=$(sed -nE "$expression" "$file" 2>/dev/null | head -n 1)
    if [[ -n $line ]]; then
      printf '%s\n' "$line"
      return 0
    fi
    kill -0 "$pid" 2>/dev/null || return 1
    sleep 0.1
  done
  return 1
}

# Evaluates a JavaScript expression over the JSON on stdin, there called `it`.
query() {
  node -e 'const it = JSON.parse(require("node:fs").readFileSync(0, "utf8")); const found = eval(process.argv[1]);
    if (found === undefined || found === false) process.exit(1); console.log(found)' "$1"
}

fetch() {
  node -e 'fetch(process.argv[1], { signal: AbortSignal.timeout(5000) }).then(
    async (answer) => { console.log(await answer.text()); process.exitCode = answer.ok ? 0 : 1; },
    () => { process.exitCode = 1; })' "$1"
}

random() { node -p 'require("node:crypto").randomBytes(16).toString("hex")'; }

step "Build"
if [[ -z ${WEFT_BIN:-} || -z ${FAKE_SLACK_BIN:-} ]]; then
  cargo build --quiet --package weft-cli --package weft-testkit --bins
  bin=$(scripts/target-dir.sh)/debug
fi
weft=${WEFT_BIN:-$bin/weft}
fake_slack=${FAKE_SLACK_BIN:-$bin/fake-slack}
say "$("$weft" --version)"

# Nothing of the user's own login, server or settings takes part.
unset WEFT_URL WEFT_TOKEN WEFT_EMAIL WEFT_CONFIG_FILE WEFT_LISTEN WEFT_PUBLIC_URL WEFT_MASTER_KEY WEFT_JWT_SECRET DATABASE_URL
export WEFT_CONFIG=$dir/private/login.json
export WEFT_RUNTIME_DIR=${WEFT_RUNTIME_DIR:-$PWD/runtime}
export NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}"
# The integration's packages come from where npm gets its own.
export NPM_CONFIG_REGISTRY="${NPM_CONFIG_REGISTRY:-$(npm config get registry 2>/dev/null)}"

token=xoxb-demo-$(random)
printf '%s' "$token" >"$dir/private/bot-token"
random >"$dir/private/signing-secret"

step "Start a fake Slack"
"$fake_slack" 0 "$token" >"$dir/slack.log" 2>&1 &
slack_pid=$!
slack_api=$(await_line "$dir/slack.log" 's/^fake slack on (.*)$/\1/p' 10 "$slack_pid") || fail "the fake Slack does not start"
slack=${slack_api%/api/}
say "it listens at $slack_api"

step "Start the server, with a PostgreSQL of its own in a fresh folder"
begin=$(date +%s%N)
"$weft" serve --listen 127.0.0.1:0 --data-dir "$dir/data" --egress-allow 127.0.0.0/8 >"$dir/server.log" 2>&1 &
server_pid=$!
url=$(await_line "$dir/server.log" 's/^Weft is ready at (.*)\/$/\1/p' 60 "$server_pid") || fail "the server does not start"
fetch "$url/health/ready" >/dev/null || fail "the server is not ready"
say "ready at $url after $((($(date +%s%N) - begin) / 1000000)) ms"

step "Log in: the first user becomes the administrator"
password=Demo-$(random)
WEFT_PASSWORD=$password "$weft" login "$url" --email demo@example.com 2>&1 | indent || fail "the login was refused"

step "Deploy the Slack integration"
"$weft" deploy integrations/slack 2>&1 | tee "$dir/private/deploy.txt" | sed -E 's#(/hooks/.{6}).*#\1…#' | indent || fail "the deployment was refused"
hook=$(sed -nE 's/^webhook message: (.*)$/\1/p' "$dir/private/deploy.txt")
[[ -n $hook ]] || fail "the deployment names no webhook address"

step "Configure it; secrets come from files, never from the command line"
"$weft" config slack "botToken=@$dir/private/bot-token" "signingSecret=@$dir/private/signing-secret" "apiUrl=$slack_api" 2>&1 |
  indent || fail "the configuration was refused"

step "Send a message"
text="Hello from Weft"
"$weft" call slack send_message "{\"channel\":\"#general\",\"text\":\"$text\"}" | indent || fail "the call failed"

step "Look at the fake Slack: did it arrive, and with the right token?"
arrived=$(fetch "$slack/_requests") || fail "the fake Slack does not answer"
DEMO_TOKEN=$token DEMO_TEXT=$text query 'it.some((request) => request.method === "chat.postMessage" &&
  request.token === process.env.DEMO_TOKEN && request.fields.channel === "#general" &&
  request.fields.text === process.env.DEMO_TEXT) && `yes: ${it.at(-1).method} to ${it.at(-1).fields.channel}: ${it.at(-1).fields.text}`' \
  <<<"$arrived" | indent || fail "the message is not there: $(query 'it.map((request) => request.method)' <<<"$arrived")"

step "See what a mistake looks like: a channel that does not exist"
if "$weft" call slack send_message '{"channel":"#nowhere","text":"Hello?"}' >"$dir/mistake.txt" 2>&1; then
  fail "a message to a channel that does not exist was accepted"
fi
indent <"$dir/mistake.txt"
grep -q channel_not_found "$dir/mistake.txt" || fail "the refusal does not carry Slack's reason"

step "Receive an event from Slack, signed; then a forged one"
answer=$(node scripts/send-slack-event.mjs "$hook" --secret-file "$dir/private/signing-secret") || fail "the webhook does not answer"
query 'it.status === 200 && `signed: ${it.status} ${it.body}`' <<<"$answer" | indent || fail "the signed event was refused: $answer"
answer=$(node scripts/send-slack-event.mjs "$hook" --secret-file "$dir/private/signing-secret" --forged) || fail "the webhook does not answer"
query 'it.status === 401 && `forged: ${it.status} ${JSON.parse(it.body).error}`' <<<"$answer" | indent || fail "the forged event was accepted: $answer"

step "Look at the history: who called what, how it ended, how long it took"
"$weft" runs --limit 4 2>/dev/null | indent || fail "the runs cannot be listed"
"$weft" --json runs --integration slack --action send_message --status succeeded |
  query 'it.data.length === 1 && it.data[0].durationMs >= 0' >/dev/null || fail "the call is not in the history"

step "Look for the bot token in everything the server has written"
if grep -rqaF -f "$dir/private/bot-token" "$dir/data" "$dir/server.log"; then
  fail "the bot token is readable in $(grep -rlaF -f "$dir/private/bot-token" "$dir/data" "$dir/server.log" | head -n 3 | tr '\n' ' ')"
fi
say "it is nowhere in plain text: not in the database, its log, or the server's log"

printf '\nEverything worked.\n\n'
if [[ -n ${KEEP:-} ]]; then
  trap - EXIT
  say "The server keeps running:"
  say "  address   $url"
  say "  API       $url/docs"
  say "  login     demo@example.com  $password"
  say "  weft      export WEFT_CONFIG=$WEFT_CONFIG PATH=\"$(cd "$(dirname "$weft")" && pwd):\$PATH\""
  say "  log       $dir/server.log"
  say "  stop      kill $server_pid $slack_pid; rm -rf $dir"
else
  say "KEEP=1 make demo     the same, and leave it running to look around"
  say "make up              a server that keeps its data"
  say "README.md            your first integration in five minutes"
fi
