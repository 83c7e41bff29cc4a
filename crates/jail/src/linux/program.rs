//! Rules about system calls, and the small program for the kernel that they become. Pure.
//!
//! The program refuses calls in the convention of another architecture outright: their numbers mean something else.

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, ENOSYS, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, SECCOMP_RET_USER_NOTIF, sock_filter,
};

/// Where the parts of `struct seccomp_data` lie.
const CALL: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const OWN_ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OWN_ARCHITECTURE: u32 = 0xc000_00b7;
/// On x86-64, calls from here on are those of the x32 convention.
const OTHER_CONVENTION: u32 = 0x4000_0000;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    /// The host is asked, and the caller waits for it.
    Notify,
    /// The call does nothing and returns this error; zero means that it claims to have worked.
    Errno(i32),
}

/// What holds for one call: the first case whose tests all pass decides.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    call: u32,
    cases: Vec<(Vec<Test>, Verdict)>,
    otherwise: Verdict,
}

/// A comparison of half an argument.
#[derive(Debug, Clone, Copy)]
pub(super) struct Test {
    offset: u32,
    mask: u32,
    value: u32,
    equal: bool,
}

/// A program for the kernel's filter machine.
#[derive(Debug, Clone)]
pub(super) struct Program(Vec<sock_filter>);

impl Rule {
    pub(super) fn new(call: libc::c_long, otherwise: Verdict) -> Self {
        Self { call: u32::try_from(call).unwrap_or(u32::MAX), cases: Vec::new(), otherwise }
    }

    pub(super) fn always(call: libc::c_long, verdict: Verdict) -> Self {
        Self::new(call, verdict)
    }

    pub(super) fn when(mut self, tests: Vec<Test>, verdict: Verdict) -> Self {
        self.cases.push((tests, verdict));
        self
    }
}

impl Test {
    pub(super) fn equals(argument: u32, value: i32) -> Self {
        Self::masked(argument, u32::MAX, value)
    }

    pub(super) fn masked(argument: u32, mask: u32, value: i32) -> Self {
        Self { offset: low_half(argument), mask, value: value.cast_unsigned(), equal: true }
    }

    pub(super) fn any_bit(argument: u32, bits: i32) -> Self {
        Self { offset: low_half(argument), mask: bits.cast_unsigned(), value: 0, equal: false }
    }

    pub(super) fn not_zero_low(argument: u32) -> Self {
        Self { offset: low_half(argument), mask: u32::MAX, value: 0, equal: false }
    }

    pub(super) fn not_zero_high(argument: u32) -> Self {
        Self { offset: low_half(argument) + 4, mask: u32::MAX, value: 0, equal: false }
    }
}

/// Both supported architectures are little-endian.
fn low_half(argument: u32) -> u32 {
    ARGUMENTS + 8 * argument
}

impl Program {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut program = Self(vec![
            load(ARCHITECTURE),
            jump(BPF_JEQ, OWN_ARCHITECTURE, 1, 0),
            end(Verdict::Errno(ENOSYS)),
            load(CALL),
            jump(BPF_JGE, OTHER_CONVENTION, 0, 1),
            end(Verdict::Errno(ENOSYS)),
        ]);
        for rule in rules {
            program.add(rule);
        }
        program.0.push(end(Verdict::Allow));
        program
    }

    pub(super) fn instructions(&self) -> &[sock_filter] {
        &self.0
    }

    fn add(&mut self, rule: &Rule) {
        let mut body: Vec<sock_filter> = rule.cases.iter().flat_map(|(tests, verdict)| case(tests, *verdict)).collect();
        body.push(end(rule.otherwise));
        self.0.push(jump(BPF_JEQ, rule.call, 0, distance(body.len())));
        self.0.extend(body);
    }
}

/// The tests of a case and its verdict. A test that fails jumps behind the verdict.
fn case(tests: &[Test], verdict: Verdict) -> Vec<sock_filter> {
    let mut code = vec![end(verdict)];
    for test in tests.iter().rev() {
        let skip = distance(code.len());
        let (hit, miss) = if test.equal { (0, skip) } else { (skip, 0) };
        code.insert(0, jump(BPF_JEQ, test.value, hit, miss));
        if test.mask != u32::MAX {
            code.insert(0, instruction(BPF_ALU | BPF_AND | BPF_K, test.mask));
        }
        code.insert(0, load(test.offset));
    }
    code
}

/// How far a jump goes. The rules are few and fixed, and their tests run each of them.
fn distance(instructions: usize) -> u8 {
    u8::try_from(instructions).expect("a rule has fewer than 256 instructions")
}

fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, offset)
}

fn jump(comparison: u32, value: u32, hit: u8, miss: u8) -> sock_filter {
    sock_filter { jt: hit, jf: miss, ..instruction(BPF_JMP | comparison | BPF_K, value) }
}

fn end(verdict: Verdict) -> sock_filter {
    let value = match verdict {
        Verdict::Allow => SECCOMP_RET_ALLOW,
        Verdict::Notify => SECCOMP_RET_USER_NOTIF,
        Verdict::Errno(number) => SECCOMP_RET_ERRNO | number.cast_unsigned(),
    };
    instruction(BPF_RET | BPF_K, value)
}

fn instruction(code: u32, value: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or(u16::MAX), jt: 0, jf: 0, k: value }
}

/// Runs programs the way the kernel does, for tests of the rules.
#[cfg(test)]
pub(super) mod interpreter {
    use super::*;

    pub(in crate::linux) fn run(program: &Program, call: libc::c_long, arguments: [u64; 6]) -> Verdict {
        run_on(OWN_ARCHITECTURE, program, u32::try_from(call).unwrap(), arguments)
    }

    fn run_on(architecture: u32, program: &Program, call: u32, arguments: [u64; 6]) -> Verdict {
        let mut data = vec![call, architecture, 0, 0];
        data.extend(arguments.iter().flat_map(|&value| [(value & 0xffff_ffff) as u32, (value >> 32) as u32]));
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program.0[at];
            at += 1;
            match u32::from(code) {
                code if code == BPF_LD | BPF_W | BPF_ABS => accumulator = data[k as usize / 4],
                code if code == BPF_ALU | BPF_AND | BPF_K => accumulator &= k,
                code if code == BPF_JMP | BPF_JEQ | BPF_K => at += usize::from(if accumulator == k { jt } else { jf }),
                code if code == BPF_JMP | BPF_JGE | BPF_K => at += usize::from(if accumulator >= k { jt } else { jf }),
                _ => return verdict(k),
            }
        }
    }

    fn verdict(value: u32) -> Verdict {
        match value & 0xffff_0000 {
            SECCOMP_RET_ALLOW => Verdict::Allow,
            SECCOMP_RET_USER_NOTIF => Verdict::Notify,
            SECCOMP_RET_ERRNO => Verdict::Errno((value & 0xffff).cast_signed()),
            other => panic!("unknown verdict {other:#x}"),
        }
    }

    #[test]
    fn calls_in_another_convention_are_refused() {
        let program = Program::new(&[]);
        assert_eq!(run_on(OWN_ARCHITECTURE, &program, 1, [0; 6]), Verdict::Allow);
        assert_eq!(run_on(0x4000_0003, &program, 1, [0; 6]), Verdict::Errno(ENOSYS));
        assert_eq!(run_on(OWN_ARCHITECTURE, &program, OTHER_CONVENTION + 1, [0; 6]), Verdict::Errno(ENOSYS));
    }

    #[test]
    fn the_first_case_whose_tests_all_pass_decides() {
        let rule = Rule::new(9, Verdict::Errno(1))
            .when(vec![Test::equals(0, 5), Test::masked(1, 0xf, 2)], Verdict::Notify)
            .when(vec![Test::any_bit(2, 0x30)], Verdict::Allow);
        let program = Program::new(&[rule]);
        assert_eq!(run(&program, 9, [5, 0xf2, 0, 0, 0, 0]), Verdict::Notify);
        assert_eq!(run(&program, 9, [5, 3, 0x10, 0, 0, 0]), Verdict::Allow);
        assert_eq!(run(&program, 9, [5, 3, 0x40, 0, 0, 0]), Verdict::Errno(1));
        assert_eq!(run(&program, 10, [5, 3, 0, 0, 0, 0]), Verdict::Allow);
    }
}
