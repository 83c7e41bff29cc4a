//! What is forbidden among system calls, as data. Pure; [`super::program`] turns it into the kernel's form.
//!
//! A list of what is refused rather than of what is allowed: runtimes change the calls they make from version to version,
//! and files, connections and accounts are confined by other means. What is refused is what reaches past those means.

use libc::{
    AF_INET, AF_INET6, AF_UNIX, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER,
    CLONE_NEWUTS, CLONE_THREAD, EACCES, EAFNOSUPPORT, ENOSYS, EPERM, IP_RECVERR, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP,
    IPPROTO_UDP, IPV6_RECVERR, MSG_FASTOPEN, PR_SET_PDEATHSIG, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, TIOCSTI,
};

use super::program::{Rule, Test, Verdict};

/// The low bits of a socket's type; the others are flags.
const SOCKET_TYPE: u32 = 0xf;
const NEW_NAMESPACES: i32 =
    CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUSER | CLONE_NEWUTS;

/// Refused with EPERM: what changes the machine, looks into other processes, or is a wide door into the kernel.
const CLOSED: &[libc::c_long] = &[
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_process_madvise,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Memory and queues that belong to no process: they outlive the child, and others meet there.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_mq_open,
    // Doors into the kernel that a program does not need and that others came in by.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_seccomp,
    libc::SYS_personality,
];

/// Answered as if the kernel did not know them, because libraries then fall back: io_uring would connect past the filter,
/// the flags of clone3 lie in memory, where no filter can read them, and a file in memory counts as nobody's.
const UNKNOWN: &[libc::c_long] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
];

/// What of the network is left to the child itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connections {
    /// The host decides about them and makes them.
    Brokered,
    /// There is no broker on this machine: the child makes its own.
    Open,
}

/// The rules for a child.
pub(super) fn rules(connections: Connections, may_start_processes: bool) -> Vec<Rule> {
    let mut rules = vec![clone_rule(may_start_processes), prctl_rule(), prlimit_rule(), ioctl_rule()];
    if connections == Connections::Brokered {
        rules.extend(network_rules());
    }
    if !may_start_processes {
        rules.extend(fork_calls().iter().map(|&call| Rule::always(call, Verdict::Errno(EPERM))));
    }
    rules.extend(UNKNOWN.iter().map(|&call| Rule::always(call, Verdict::Errno(ENOSYS))));
    rules.extend(CLOSED.iter().map(|&call| Rule::always(call, Verdict::Errno(EPERM))));
    rules
}

fn network_rules() -> Vec<Rule> {
    vec![
        Rule::always(libc::SYS_connect, Verdict::Notify),
        Rule::always(libc::SYS_bind, Verdict::Errno(EACCES)),
        Rule::always(libc::SYS_listen, Verdict::Errno(EACCES)),
        socket_rule(),
        socket_pair_rule(),
        // An address in a send is a connect that nobody was asked about.
        Rule::new(libc::SYS_sendto, Verdict::Allow)
            .when(vec![Test::any_bit(3, MSG_FASTOPEN)], Verdict::Errno(EACCES))
            .when(vec![Test::not_zero_low(4)], Verdict::Errno(EACCES))
            .when(vec![Test::not_zero_high(4)], Verdict::Errno(EACCES)),
        Rule::new(libc::SYS_sendmsg, Verdict::Allow).when(vec![Test::any_bit(2, MSG_FASTOPEN)], Verdict::Errno(EACCES)),
        Rule::new(libc::SYS_sendmmsg, Verdict::Allow).when(vec![Test::any_bit(3, MSG_FASTOPEN)], Verdict::Errno(EACCES)),
        // glibc insists on this option for its DNS socket, which is not one of the internet here. It changes nothing there.
        Rule::new(libc::SYS_setsockopt, Verdict::Allow)
            .when(vec![Test::equals(1, IPPROTO_IP), Test::equals(2, IP_RECVERR)], Verdict::Errno(0))
            .when(vec![Test::equals(1, IPPROTO_IPV6), Test::equals(2, IPV6_RECVERR)], Verdict::Errno(0)),
    ]
}

/// TCP is the child's own until it connects. A UDP socket is made by the host: what the child gets cannot carry an address.
/// Local datagram sockets are refused, because a message on them can name any receiver.
fn socket_rule() -> Rule {
    let mut rule = Rule::new(libc::SYS_socket, Verdict::Errno(EACCES));
    for family in [AF_INET, AF_INET6] {
        for (kind, protocol, verdict) in [(SOCK_STREAM, IPPROTO_TCP, Verdict::Allow), (SOCK_DGRAM, IPPROTO_UDP, Verdict::Notify)]
        {
            for protocol in [0, protocol] {
                let tests = vec![Test::equals(0, family), Test::masked(1, SOCKET_TYPE, kind), Test::equals(2, protocol)];
                rule = rule.when(tests, verdict);
            }
        }
    }
    allow_local_streams(rule)
}

fn socket_pair_rule() -> Rule {
    allow_local_streams(Rule::new(libc::SYS_socketpair, Verdict::Errno(EAFNOSUPPORT)))
}

fn allow_local_streams(rule: Rule) -> Rule {
    [SOCK_STREAM, SOCK_SEQPACKET]
        .iter()
        .fold(rule, |rule, &kind| rule.when(vec![Test::equals(0, AF_UNIX), Test::masked(1, SOCKET_TYPE, kind)], Verdict::Allow))
}

fn clone_rule(may_start_processes: bool) -> Rule {
    let rule =
        Rule::new(libc::SYS_clone, Verdict::Errno(EPERM)).when(vec![Test::any_bit(0, NEW_NAMESPACES)], Verdict::Errno(EPERM));
    let threads = if may_start_processes { vec![] } else { vec![Test::any_bit(0, CLONE_THREAD)] };
    rule.when(threads, Verdict::Allow)
}

/// A child that forgot its parent would outlive it.
fn prctl_rule() -> Rule {
    Rule::new(libc::SYS_prctl, Verdict::Allow).when(vec![Test::equals(0, PR_SET_PDEATHSIG)], Verdict::Errno(EPERM))
}

/// Limits of other processes, the caller's above all, where the account is the same.
fn prlimit_rule() -> Rule {
    Rule::new(libc::SYS_prlimit64, Verdict::Allow).when(vec![Test::not_zero_low(0)], Verdict::Errno(EPERM))
}

/// Typing into the caller's terminal.
fn ioctl_rule() -> Rule {
    let typing = u32::try_from(TIOCSTI).unwrap_or(u32::MAX);
    Rule::new(libc::SYS_ioctl, Verdict::Allow).when(vec![Test::masked(1, u32::MAX, typing.cast_signed())], Verdict::Errno(EPERM))
}

#[cfg(target_arch = "x86_64")]
fn fork_calls() -> &'static [libc::c_long] {
    &[libc::SYS_fork, libc::SYS_vfork]
}

#[cfg(not(target_arch = "x86_64"))]
fn fork_calls() -> &'static [libc::c_long] {
    &[]
}

#[cfg(test)]
mod tests {
    use libc::c_long;

    use super::*;
    use crate::linux::program::{Program, interpreter::run};

    fn verdict(call: c_long, arguments: [u64; 6]) -> Verdict {
        run(&Program::new(&rules(Connections::Brokered, false)), call, arguments)
    }

    fn number(value: i32) -> u64 {
        u64::from(value.cast_unsigned())
    }

    fn socket(family: i32, kind: i32, protocol: i32) -> Verdict {
        verdict(libc::SYS_socket, [number(family), number(kind), number(protocol), 0, 0, 0])
    }

    #[test]
    fn ordinary_calls_pass_and_doors_into_the_kernel_do_not() {
        for call in [libc::SYS_read, libc::SYS_openat, libc::SYS_futex, libc::SYS_accept4, libc::SYS_recvfrom] {
            assert_eq!(verdict(call, [0; 6]), Verdict::Allow);
        }
        let closed = [libc::SYS_mount, libc::SYS_ptrace, libc::SYS_bpf, libc::SYS_unshare, libc::SYS_process_vm_readv];
        for call in closed.into_iter().chain([libc::SYS_shmget, libc::SYS_shmat, libc::SYS_msgget, libc::SYS_semget]) {
            assert_eq!(verdict(call, [0; 6]), Verdict::Errno(EPERM));
        }
        assert_eq!(verdict(libc::SYS_io_uring_setup, [0; 6]), Verdict::Errno(ENOSYS));
        assert_eq!(verdict(libc::SYS_clone3, [0; 6]), Verdict::Errno(ENOSYS));
        assert_eq!(verdict(libc::SYS_memfd_create, [0; 6]), Verdict::Errno(ENOSYS));
    }

    #[test]
    fn connections_and_datagrams_are_decided_by_the_host() {
        assert_eq!(verdict(libc::SYS_connect, [0; 6]), Verdict::Notify);
        assert_eq!(socket(AF_INET, SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0), Verdict::Allow);
        assert_eq!(socket(AF_INET6, SOCK_STREAM, IPPROTO_TCP), Verdict::Allow);
        assert_eq!(socket(AF_INET, SOCK_DGRAM | libc::SOCK_CLOEXEC, 0), Verdict::Notify);
        assert_eq!(socket(AF_UNIX, SOCK_STREAM, 0), Verdict::Allow);
    }

    #[test]
    fn odd_sockets_are_refused() {
        let odd = [
            (AF_UNIX, SOCK_DGRAM, 0),
            (libc::AF_NETLINK, libc::SOCK_RAW, 0),
            (libc::AF_PACKET, libc::SOCK_RAW, 0),
            (AF_INET, libc::SOCK_RAW, 1),
            (AF_INET, SOCK_DGRAM, libc::IPPROTO_ICMP),
            (AF_INET, SOCK_STREAM, libc::IPPROTO_SCTP),
            (AF_INET, SOCK_STREAM, libc::IPPROTO_MPTCP),
            (libc::AF_VSOCK, SOCK_STREAM, 0),
            (AF_INET, SOCK_SEQPACKET, 0),
        ];
        for (family, kind, protocol) in odd {
            assert_eq!(socket(family, kind, protocol), Verdict::Errno(EACCES), "{family} {kind} {protocol}");
        }
        let pair = [number(AF_UNIX), number(SOCK_DGRAM), 0, 0, 0, 0];
        assert_eq!(verdict(libc::SYS_socketpair, pair), Verdict::Errno(EAFNOSUPPORT));
    }

    #[test]
    fn an_address_in_a_send_is_refused() {
        assert_eq!(verdict(libc::SYS_sendto, [0; 6]), Verdict::Allow);
        assert_eq!(verdict(libc::SYS_sendto, [0, 0, 0, 0, 0x10, 16]), Verdict::Errno(EACCES));
        assert_eq!(verdict(libc::SYS_sendto, [0, 0, 0, 0, 0x1_0000_0000, 16]), Verdict::Errno(EACCES));
        assert_eq!(verdict(libc::SYS_sendto, [0, 0, 0, number(MSG_FASTOPEN), 0, 0]), Verdict::Errno(EACCES));
        assert_eq!(verdict(libc::SYS_sendmsg, [0, 0, number(MSG_FASTOPEN), 0, 0, 0]), Verdict::Errno(EACCES));
        assert_eq!(verdict(libc::SYS_sendmsg, [0, 0, number(libc::MSG_NOSIGNAL), 0, 0, 0]), Verdict::Allow);
    }

    #[test]
    fn threads_start_and_processes_only_if_the_policy_says_so() {
        let thread = [number(CLONE_THREAD | libc::CLONE_VM), 0, 0, 0, 0, 0];
        let process = [number(libc::SIGCHLD), 0, 0, 0, 0, 0];
        let namespace = [number(CLONE_NEWUSER | CLONE_THREAD), 0, 0, 0, 0, 0];
        assert_eq!(verdict(libc::SYS_clone, thread), Verdict::Allow);
        assert_eq!(verdict(libc::SYS_clone, process), Verdict::Errno(EPERM));
        assert_eq!(verdict(libc::SYS_clone, namespace), Verdict::Errno(EPERM));
        let generous = Program::new(&rules(Connections::Brokered, true));
        assert_eq!(run(&generous, libc::SYS_clone, process), Verdict::Allow);
        assert_eq!(run(&generous, libc::SYS_clone, namespace), Verdict::Errno(EPERM));
    }

    #[test]
    fn a_child_can_neither_outlive_its_parent_nor_change_the_limits_of_others() {
        assert_eq!(verdict(libc::SYS_prctl, [number(PR_SET_PDEATHSIG), 0, 0, 0, 0, 0]), Verdict::Errno(EPERM));
        assert_eq!(verdict(libc::SYS_prctl, [number(libc::PR_SET_NAME), 0, 0, 0, 0, 0]), Verdict::Allow);
        assert_eq!(verdict(libc::SYS_prlimit64, [0; 6]), Verdict::Allow);
        assert_eq!(verdict(libc::SYS_prlimit64, [1, 0, 0, 0, 0, 0]), Verdict::Errno(EPERM));
    }
}
