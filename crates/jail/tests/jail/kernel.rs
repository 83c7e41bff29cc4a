//! A program that speaks to the kernel directly, past every library.

use serde_json::json;

use crate::rig::{Rig, TestResult};

/// `call(number, …)` makes a system call and gives its result, or the negative error number.
const CALLS: &str = r#"
import { dlopen, ptr } from "bun:ffi";
const { symbols: libc } = dlopen("libc.so.6", {
  syscall: { args: ["i64", "i64", "i64", "i64", "i64", "i64", "i64"], returns: "i64" },
  __errno_location: { args: [], returns: "ptr" },
});
import { read } from "bun:ffi";
const kept: unknown[] = [];
const call = (number: number, ...given: unknown[]) => {
  const values = given.map((value) => (value instanceof Uint8Array ? (kept.push(value), ptr(value)) : value));
  const result = Number(libc.syscall(number, ...([...values, 0, 0, 0, 0, 0, 0].slice(0, 6) as any)));
  return result < 0 ? -read.i32(libc.__errno_location()!, 0) : result;
};
const internet = (address: number[], port: number) => new Uint8Array([2, 0, port >> 8, port & 255, ...address, 0, 0, 0, 0, 0, 0, 0, 0]);
const message = (address: Uint8Array, text: string) => {
  const bytes = new TextEncoder().encode(text);
  const part = new BigUint64Array([BigInt(ptr(bytes)), BigInt(bytes.length)]);
  const header = new BigUint64Array([BigInt(ptr(address)), BigInt(address.length), BigInt(ptr(part)), 1n, 0n, 0n, 0n]);
  kept.push(bytes, part, address);
  return new Uint8Array(header.buffer);
};
"#;

const EPERM: i64 = -1;
const EACCES: i64 = -13;
const ENOSYS: i64 = -38;

#[tokio::test]
async fn calls_that_reach_past_the_jail_are_refused() -> TestResult {
    let rig = Rig::new()?;
    let program = format!(
        r"{CALLS}
        const keeper = Number(process.argv[2]);
        say({{
          unshare: call({unshare}, 0x10000000), setns: call({setns}, 0, 0), mount: call({mount}, 0, 0, 0, 0, 0),
          ptrace: call({ptrace}, 16, keeper, 0, 0), readMemory: call({process_vm_readv}, keeper, 0, 0, 0, 0, 0),
          bpf: call({bpf}, 0, 0, 0), perf: call({perf}, 0, 0, 0, 0, 0), keys: call({keyctl}, 0, 0), seccomp: call({seccomp}, 0, 0, 0),
          outlive: call({prctl}, 1, 0), limitsOfKeeper: call({prlimit}, keeper, 7, 0, 0), kill: call({kill}, keeper, 0),
          processOfItsOwn: call({clone}, 17, 0, 0, 0, 0),
        }});",
        unshare = libc::SYS_unshare,
        setns = libc::SYS_setns,
        mount = libc::SYS_mount,
        ptrace = libc::SYS_ptrace,
        process_vm_readv = libc::SYS_process_vm_readv,
        bpf = libc::SYS_bpf,
        perf = libc::SYS_perf_event_open,
        keyctl = libc::SYS_keyctl,
        seccomp = libc::SYS_seccomp,
        prctl = libc::SYS_prctl,
        prlimit = libc::SYS_prlimit64,
        kill = libc::SYS_kill,
        clone = libc::SYS_clone,
    );
    let said = rig.say(&program, &[&std::process::id().to_string()]).await?;
    let wrong: Vec<_> = said.as_object().ok_or("not an object")?.iter().filter(|(_, code)| **code != json!(EPERM)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}

#[tokio::test]
async fn connections_past_the_broker_are_refused() -> TestResult {
    let rig = Rig::new()?;
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let streams = std::net::TcpListener::bind("127.0.0.1:0")?;
    let folder = rig.path("scratch/datagrams");
    let local = std::os::unix::net::UnixDatagram::bind(&folder)?;
    let program = format!(
        r#"{CALLS}
        const [udp, tcp] = process.argv.slice(2).map(Number);
        const stream = call({socket}, 2, 1, 0);
        const datagram = call({socket}, 2, 2, 0);
        const fastOpen = 0x20000000;
        say({{
          local: call({socket}, 1, 2, 0), localPair: call({pair}, 1, 2, 0, new Uint8Array(8)), netlink: call({socket}, 16, 3, 0),
          raw: call({socket}, 2, 3, 1), ping: call({socket}, 2, 2, 1), multipath: call({socket}, 2, 1, 262),
          fastOpenTo: call({sendto}, stream, new Uint8Array(4), 4, fastOpen, internet([127, 0, 0, 1], tcp), 16),
          fastOpenMessage: call({sendmsg}, stream, message(internet([127, 0, 0, 1], tcp), "hi"), fastOpen),
          sendTo: call({sendto}, datagram, new Uint8Array(4), 4, 0, internet([127, 0, 0, 1], udp), 16),
          bind: call({bind}, stream, internet([127, 0, 0, 1], 0), 16), listen: call({listen}, stream, 1),
          uring: call({uring}, 1, new Uint8Array(120)), shortAddress: call({connect}, stream, internet([1, 1, 1, 1], 80), 4),
          forget: call({connect}, stream, new Uint8Array(16), 16), noMemory: call({connect}, stream, 8, 16),
          noSocket: call({connect}, 999, internet([1, 1, 1, 1], 80), 16), file: call({connect}, 0, internet([1, 1, 1, 1], 80), 16),
          message: [call({sendmsg}, datagram, message(internet([127, 0, 0, 1], udp), "hi"), 0),
            call({connect}, datagram, internet([127, 0, 0, 1], 53), 16),
            call({sendmsg}, datagram, message(internet([127, 0, 0, 1], udp), "hi"), 0) >= -107],
        }});"#,
        socket = libc::SYS_socket,
        pair = libc::SYS_socketpair,
        sendto = libc::SYS_sendto,
        sendmsg = libc::SYS_sendmsg,
        bind = libc::SYS_bind,
        listen = libc::SYS_listen,
        uring = libc::SYS_io_uring_setup,
        connect = libc::SYS_connect,
    );
    let ports = [datagrams.local_addr()?.port(), streams.local_addr()?.port()].map(|port| port.to_string());
    let said = rig.say(&program, &ports.each_ref().map(String::as_str)).await?;
    let expected = json!({
        "local": EACCES, "localPair": -libc::EAFNOSUPPORT, "netlink": EACCES, "raw": EACCES, "ping": EACCES, "multipath": EACCES,
        "fastOpenTo": EACCES, "fastOpenMessage": EACCES, "sendTo": EACCES, "bind": EACCES, "listen": EACCES, "uring": ENOSYS,
        "shortAddress": EACCES, "forget": EACCES, "noMemory": -libc::EFAULT, "noSocket": -libc::EBADF, "file": -libc::ENOTSOCK,
        "message": [-libc::ENOTCONN, 0, true],
    });
    assert_eq!(said, expected);
    for silent in [datagrams.set_nonblocking(true), streams.set_nonblocking(true), local.set_nonblocking(true)] {
        silent?;
    }
    assert!(datagrams.recv(&mut [0; 8]).is_err() && local.recv(&mut [0; 8]).is_err() && streams.accept().is_err());
    Ok(())
}
