//! Settings: the compiled-in defaults, then a file, then environment variables, then flags.
//!
//! `default.toml` is the manual. All problems are reported at once, each with the name of the setting it is about.

mod catalog;
mod files;
mod jobs;
mod packages;
mod workers;

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration as Span,
};

use axum::http::HeaderValue;
use chrono::Duration;
use ipnet::IpNet;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use url::Url;
use weft_jail::AddressGuard;
use weft_model::Secret;
use weft_workers::Precedence;

use crate::{data::BackendLimits, db, integrations::Source, jobs::Limits};

use catalog::CatalogFile;
use files::FilesFile;
pub use files::Store;
use jobs::JobsFile;
use packages::{DeploymentsFile, PackagesFile};
pub use packages::{Packages, Place};
use workers::WorkersFile;
pub use workers::{Jail, Workers};

/// The commented defaults; also what `weft serve --print-config` shows.
pub const DEFAULT: &str = include_str!("default.toml");

/// What `weft serve` takes on the command line and from the environment.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServeArgs {
    /// Address and port to listen on [default: 127.0.0.1:9100]
    #[arg(long, env = "WEFT_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Base URL under which others reach the server [default: http://<listen>]
    #[arg(long, env = "WEFT_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Folder for the embedded database, deployed code and generated keys
    #[arg(long, env = "WEFT_DATA_DIR", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// PostgreSQL to use instead of the embedded one
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Folder whose node_modules holds Bun and PostgreSQL
    #[arg(long, env = "WEFT_RUNTIME_DIR", value_name = "FOLDER")]
    pub runtime_dir: Option<PathBuf>,
    /// Addresses outside the public internet that may be contacted: addresses, CIDR ranges and host names
    #[arg(long, env = "WEFT_EGRESS_ALLOW", value_delimiter = ',', value_name = "CIDR|HOST")]
    pub egress_allow: Vec<String>,
    /// Confinement of workers: auto, require or off
    #[arg(long, env = "WEFT_JAIL", value_name = "MODE")]
    pub jail: Option<String>,
    /// Registry that deployed backends' packages come from [default: https://registry.npmjs.org/]
    #[arg(long, env = "NPM_CONFIG_REGISTRY", value_name = "URL", hide_env_values = true)]
    pub package_registry: Option<String>,
    /// Log format: human or json
    #[arg(long, env = "WEFT_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Log filter, for example debug or info,weft_server=debug
    #[arg(long, env = "WEFT_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// OpenTelemetry collector (OTLP over HTTP)
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Key that wraps the vault's data keys: 64 hexadecimal digits [default: made once, kept in the data folder]
    #[arg(long, env = "WEFT_MASTER_KEY", hide = true, hide_env_values = true)]
    pub master_key: Option<String>,
    /// Key that signs session tokens: 64 hexadecimal digits [default: made once, kept in the data folder]
    #[arg(long, env = "WEFT_JWT_SECRET", hide = true, hide_env_values = true)]
    pub jwt_secret: Option<String>,
    /// Access key of the S3 store of files
    #[arg(long, env = "WEFT_S3_ACCESS_KEY_ID", hide = true, hide_env_values = true)]
    pub s3_access_key_id: Option<String>,
    /// Secret key of the S3 store of files
    #[arg(long, env = "WEFT_S3_SECRET_ACCESS_KEY", hide = true, hide_env_values = true)]
    pub s3_secret_access_key: Option<String>,
    /// TOML file with settings; see --print-config for all of them
    #[arg(long, env = "WEFT_CONFIG_FILE", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the commented default settings and exit
    #[arg(long)]
    pub print_config: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Option<String>,
    public_url: Option<String>,
    data_dir: Option<PathBuf>,
    database_url: Option<String>,
    runtime_dir: Option<PathBuf>,
    registration: Option<String>,
    password_login: Option<String>,
    trusted_proxies: Option<Vec<String>>,
    egress_allow: Option<Vec<String>>,
    cors_origins: Option<Vec<String>>,
    #[serde(default)]
    log: LogFile,
    #[serde(default)]
    telemetry: TelemetryFile,
    #[serde(default)]
    history: HistoryFile,
    #[serde(default)]
    workers: WorkersFile,
    #[serde(default)]
    jobs: JobsFile,
    #[serde(default)]
    files: FilesFile,
    #[serde(default)]
    packages: PackagesFile,
    #[serde(default)]
    deployments: DeploymentsFile,
    #[serde(default)]
    database: DatabaseFile,
    #[serde(default)]
    sql: SqlFile,
    #[serde(default)]
    catalog: Vec<CatalogFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogFile {
    format: Option<String>,
    filter: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TelemetryFile {
    otlp_endpoint: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "settings name their unit")]
struct HistoryFile {
    runs_days: Option<u32>,
    deliveries_days: Option<u32>,
    records_days: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DatabaseFile {
    max_connections: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlFile {
    transaction_seconds: Option<u32>,
    migration_seconds: Option<u32>,
}

impl SqlFile {
    fn check(&self, default: &Self) -> BackendLimits {
        let seconds = |file: Option<u32>, default| Span::from_secs(file.or(default).unwrap_or(1).max(1).into());
        BackendLimits {
            transaction: seconds(self.transaction_seconds, default.transaction_seconds),
            migration: seconds(self.migration_seconds, default.migration_seconds),
        }
    }
}

/// Settings that have been checked.
#[derive(Debug, Clone)]
pub struct Settings {
    pub listen: SocketAddr,
    /// `None` until the port is known, when it follows from `listen`.
    pub public_url: Option<Url>,
    pub data_dir: PathBuf,
    pub database_url: Option<Secret<String>>,
    pub runtime_dir: Option<PathBuf>,
    pub registration_open: bool,
    pub password_login: bool,
    pub trusted_proxies: Vec<IpNet>,
    /// What outside the public internet may be contacted.
    pub egress_allow: Arc<AddressGuard>,
    pub cors_origins: Vec<String>,
    pub log_json: bool,
    pub log_filter: String,
    pub otlp_endpoint: Option<Url>,
    pub runs_kept: Duration,
    pub deliveries_kept: Duration,
    pub records_kept: Duration,
    pub workers: Workers,
    /// Who goes first on this machine where `workers.real_time` asks for it: nobody until the program has seen that it may have that.
    pub precedence: Option<Arc<Precedence>>,
    /// Jobs that this node works on at once.
    pub jobs: Limits,
    /// Where files lie, and how large they may be.
    pub files: Store,
    pub packages: Packages,
    /// Versions of an app that one can go back to, the one that serves included.
    pub versions_kept: u32,
    pub max_connections: u32,
    /// How long backends may keep the database busy.
    pub sql: BackendLimits,
    /// Indexes of integrations that do not come with the server.
    pub catalog: Vec<Source>,
    pub master_key: Option<Secret<String>>,
    pub jwt_secret: Option<Secret<String>>,
}

/// Everything that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[error("the settings have {} problem{}:\n{}", .0.len(), if .0.len() == 1 { "" } else { "s" }, .0.iter().map(|problem| format!("  - {problem}")).collect::<Vec<_>>().join("\n"))]
pub struct InvalidSettings(pub Vec<String>);

impl Settings {
    /// Merges defaults, the file named by `args`, the environment and flags.
    pub fn load(args: ServeArgs) -> Result<Self, InvalidSettings> {
        let mut problems = Problems::default();
        let default: File = toml::from_str(DEFAULT).expect("the compiled-in settings parse");
        let file = args.config.as_deref().map(|path| read(path, &mut problems)).unwrap_or_default();

        let listen = args.listen.or(file.listen).or(default.listen).unwrap_or_default();
        let format = args.log_format.or(file.log.format).or(default.log.format).unwrap_or_default();
        let registration = file.registration.or(default.registration).unwrap_or_default();
        let password_login = file.password_login.or(default.password_login).unwrap_or_default();
        let trusted_proxies = file.trusted_proxies.or(default.trusted_proxies).unwrap_or_default();
        let egress_allow = if args.egress_allow.is_empty() { file.egress_allow.unwrap_or_default() } else { args.egress_allow };
        let egress_allow = AddressGuard::new(&egress_allow).unwrap_or_else(|error| {
            problems.add(format!("egress_allow: {error}"));
            AddressGuard::default()
        });
        let (workers, worker_problems) = file.workers.check(&default.workers, args.jail.as_deref());
        problems.0.extend(worker_problems);
        let settings = Self {
            listen: problems.parse("listen", &listen).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9100))),
            public_url: args.public_url.or(file.public_url).and_then(|url| problems.http_url("public_url", &url)),
            data_dir: args.data_dir.or(file.data_dir).unwrap_or_else(default_data_dir),
            database_url: args.database_url.or(file.database_url).filter(|url| !url.is_empty()).map(Secret::new),
            runtime_dir: args.runtime_dir.or(file.runtime_dir),
            registration_open: problems.choice("registration", &registration, ["open", "closed"]),
            password_login: problems.choice("password_login", &password_login, ["on", "off"]),
            trusted_proxies: trusted_proxies.iter().filter_map(|text| problems.network("trusted_proxies", text)).collect(),
            egress_allow: Arc::new(egress_allow),
            cors_origins: file.cors_origins.or(default.cors_origins).unwrap_or_default(),
            log_json: problems.choice("log.format", &format, ["json", "human"]),
            log_filter: args.log.or(file.log.filter).or(default.log.filter).unwrap_or_default(),
            otlp_endpoint: args
                .otlp_endpoint
                .or(file.telemetry.otlp_endpoint)
                .and_then(|url| problems.http_url("telemetry.otlp_endpoint", &url)),
            runs_kept: days(file.history.runs_days, default.history.runs_days),
            deliveries_kept: days(file.history.deliveries_days, default.history.deliveries_days),
            records_kept: days(file.history.records_days, default.history.records_days),
            workers,
            precedence: None,
            jobs: file.jobs.check(&default.jobs, &mut problems),
            files: file.files.check(&default.files, (args.s3_access_key_id, args.s3_secret_access_key), &mut problems),
            packages: file.packages.check(default.packages, args.package_registry, &mut problems),
            versions_kept: file.deployments.check(&default.deployments, &mut problems),
            max_connections: file.database.max_connections.or(default.database.max_connections).unwrap_or(16).max(2),
            sql: file.sql.check(&default.sql),
            catalog: file.catalog.into_iter().filter_map(|index| index.check(&mut problems)).collect(),
            master_key: problems.key("WEFT_MASTER_KEY", args.master_key),
            jwt_secret: problems.key("WEFT_JWT_SECRET", args.jwt_secret),
        };
        if settings.cors_origins.iter().any(|origin| HeaderValue::from_str(origin).is_err() || origin.contains('*')) {
            problems
                .add("cors_origins: name each origin in full, as in https://app.example.com; there are no wildcards".to_owned());
        }
        if let Err(error) = EnvFilter::try_new(&settings.log_filter) {
            problems.add(format!("log.filter: '{}': {error}", settings.log_filter));
        }
        if let Some(Err(error)) = settings.database_url.as_ref().map(|url| db::options(url.expose())) {
            problems.add(format!("database_url: {error}"));
        }
        if problems.0.is_empty() { Ok(settings) } else { Err(InvalidSettings(problems.0)) }
    }
}

fn read(path: &Path, problems: &mut Problems) -> File {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.add(format!("--config {}: cannot read it: {error}", path.display()));
            return File::default();
        }
    };
    toml::from_str(&text).unwrap_or_else(|error: toml::de::Error| {
        // The error's own text quotes the line, which may hold the password of the database.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        problems.add(format!("--config {}: line {line}: {}", path.display(), error.message()));
        File::default()
    })
}

fn days(file: Option<u32>, default: Option<u32>) -> Duration {
    Duration::days(file.or(default).unwrap_or(1).max(1).into())
}

fn default_data_dir() -> PathBuf {
    if nix::unistd::Uid::effective().is_root() {
        return PathBuf::from("/var/lib/weft");
    }
    #[expect(clippy::disallowed_methods, reason = "the standard places of a user's data are defined by the environment")]
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("XDG_DATA_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/share")))
        .unwrap_or_else(|| PathBuf::from("."))
        .join("weft")
}

#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, problem: String) {
        self.0.push(problem);
    }

    fn parse(&mut self, name: &str, text: &str) -> Option<SocketAddr> {
        text.parse().map_err(|_| self.add(format!("{name}: '{text}' is no address and port such as 127.0.0.1:9100"))).ok()
    }

    fn http_url(&mut self, name: &str, text: &str) -> Option<Url> {
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() => Some(url),
            _ => {
                self.add(format!("{name}: '{text}' is no http or https URL"));
                None
            }
        }
    }

    /// Whether `text` is the first of two words; anything else than the two is a problem.
    fn choice(&mut self, name: &str, text: &str, words: [&str; 2]) -> bool {
        if !words.contains(&text) {
            self.add(format!("{name}: '{text}' is neither \"{}\" nor \"{}\"", words[0], words[1]));
        }
        text == words[0]
    }

    fn key(&mut self, name: &str, value: Option<String>) -> Option<Secret<String>> {
        let value = value.filter(|value| !value.is_empty())?;
        if value.len() != 64 || !value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            self.add(format!("{name}: needs 64 hexadecimal digits; make one with: openssl rand -hex 32"));
        }
        Some(Secret::new(value))
    }

    /// An address or a network.
    fn network(&mut self, name: &str, text: &str) -> Option<IpNet> {
        let parsed = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>());
        parsed.map_err(|_| self.add(format!("{name}: '{text}' is no address or CIDR range such as 10.0.0.0/8"))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_reported_at_once_and_name_their_setting() {
        let args = ServeArgs {
            listen: Some("nowhere".into()),
            public_url: Some("ftp://x".into()),
            egress_allow: vec!["10.0.0.0/40".into()],
            master_key: Some("secret-but-short".into()),
            ..ServeArgs::default()
        };
        let message = Settings::load(args).expect_err("four problems").to_string();
        for name in ["listen", "public_url", "egress_allow", "WEFT_MASTER_KEY"] {
            assert!(message.contains(name), "{name} in {message}");
        }
        assert!(!message.contains("secret-but-short"));
    }

    #[test]
    fn flags_override_the_file_and_the_file_overrides_defaults() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("weft.toml");
        std::fs::write(&path, "listen = \"127.0.0.1:1\"\nregistration = \"closed\"\n").expect("written");
        let from_file = Settings::load(ServeArgs { config: Some(path.clone()), ..ServeArgs::default() }).expect("valid");
        assert_eq!((from_file.listen.port(), from_file.registration_open), (1, false));
        let flagged = ServeArgs { config: Some(path), listen: Some("127.0.0.1:2".into()), ..ServeArgs::default() };
        assert_eq!(Settings::load(flagged).expect("valid").listen.port(), 2);
    }

    #[test]
    fn an_unknown_setting_in_the_file_is_a_problem() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("weft.toml");
        std::fs::write(&path, "lissten = \"127.0.0.1:1\"\n").expect("written");
        let error = Settings::load(ServeArgs { config: Some(path), ..ServeArgs::default() }).expect_err("a typing mistake");
        assert!(error.to_string().contains("lissten"));
    }
}
