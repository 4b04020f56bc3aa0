//! The filter: a program of the kernel's that tells which calls the supervisor hears of.
//!
//! Sources: seccomp(2), bpf(4), `include/uapi/linux/seccomp.h`, `include/uapi/linux/audit.h`.

use super::calls::{NONE, Row, Scope, When};
use libc::sock_filter;

/// `AUDIT_ARCH_X86_64`: the ELF machine, 64-bit, little-endian.
pub const X86_64: u32 = 0xc000_003e;
/// `AUDIT_ARCH_I386`.
pub const I386: u32 = 0x4000_0003;
/// `AUDIT_ARCH_AARCH64`.
pub const AARCH64: u32 = 0xc000_00b7;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
/// x86-64's x32 calls have this bit in their number.
const X32: u32 = 0x4000_0000;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const NO_SUCH_CALL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// Those that this machine's processes can have.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: &[u32] = &[X86_64, I386];
#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: &[u32] = &[AARCH64];
/// Nothing is known of their calls.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURES: &[u32] = &[];

/// Whether there is a table for this machine.
pub fn is_supported() -> bool {
    !ARCHITECTURES.is_empty()
}

/// The program. A process of an architecture without a table is killed: its calls could not be told.
pub fn program(scope: Scope) -> Vec<sock_filter> {
    for_architectures(ARCHITECTURES, scope)
}

fn for_architectures(architectures: &[u32], scope: Scope) -> Vec<sock_filter> {
    let mut program = vec![statement(LOAD, ARCHITECTURE)];
    for architecture in architectures {
        let block = block(*architecture, scope);
        program.push(branch(EQUAL, *architecture, 1, 0));
        program.push(statement(JUMP, block.len() as u32));
        program.extend(block);
    }
    program.push(statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS));
    program
}

fn block(architecture: u32, scope: Scope) -> Vec<sock_filter> {
    let mut block = vec![statement(LOAD, NUMBER)];
    if architecture == X86_64 {
        block.push(branch(ANY_BIT, X32, 0, 1));
        block.push(statement(RETURN, NO_SUCH_CALL));
    }
    for row in scope.rows() {
        let number = number(row, architecture);
        if number != NONE {
            block.extend(test(number as u32, row.when));
        }
    }
    block.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
    block
}

pub fn number(row: &Row, architecture: u32) -> i32 {
    match architecture {
        X86_64 => row.x86_64,
        I386 => row.i386,
        AARCH64 => row.aarch64,
        _ => NONE,
    }
}

/// Low words of arguments suffice: all that is tested is 32 bits wide. What does not hold goes on to the next row.
fn test(number: u32, when: When) -> Vec<sock_filter> {
    let argument = |index: u8| statement(LOAD, ARGUMENTS + 8 * u32::from(index));
    let ask = statement(RETURN, libc::SECCOMP_RET_USER_NOTIF);
    let back = statement(LOAD, NUMBER);
    match when {
        When::Always => vec![branch(EQUAL, number, 0, 1), ask],
        When::Never => vec![branch(EQUAL, number, 0, 1), statement(RETURN, NO_SUCH_CALL)],
        When::Bits(index, bits) => {
            vec![branch(EQUAL, number, 0, 4), argument(index), branch(ANY_BIT, bits, 0, 1), ask, back]
        }
        When::Is(index, value) => {
            vec![branch(EQUAL, number, 0, 4), argument(index), branch(EQUAL, value, 0, 1), ask, back]
        }
    }
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn branch(code: u16, k: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code, jt: yes, jf: no, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do; every instruction that the program has, and no other.
    fn run(program: &[sock_filter], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(architecture.to_le_bytes());
        data.extend([0; 8]);
        data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
        let (mut accumulator, mut at) = (0, 0);
        loop {
            let instruction = program[at];
            at += 1;
            let mut choose = |yes: bool| at += usize::from(if yes { instruction.jt } else { instruction.jf });
            match instruction.code {
                LOAD => {
                    let offset = instruction.k as usize;
                    accumulator = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
                }
                EQUAL => choose(accumulator == instruction.k),
                ANY_BIT => choose(accumulator & instruction.k != 0),
                JUMP => at += instruction.k as usize,
                RETURN => return instruction.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    const ALL: [u32; 3] = [X86_64, I386, AARCH64];
    const SCOPES: [Scope; 4] = [Scope::Everything, Scope::WithoutStatus, Scope::Remainder, Scope::RemainderWithStatus];

    #[test]
    fn every_row_is_asked_for_when_its_condition_holds_and_only_then() {
        for scope in SCOPES {
            let program = for_architectures(&ALL, scope);
            for architecture in ALL {
                for row in scope.rows() {
                    let number = number(row, architecture);
                    if number == NONE {
                        continue;
                    }
                    let with = |index: u8, value: u32| {
                        let mut arguments = [0xdead_beef_0000_0000; 6];
                        arguments[usize::from(index)] |= u64::from(value);
                        run(&program, architecture, number as u32, arguments)
                    };
                    match row.when {
                        When::Always => assert_eq!(with(0, 0), libc::SECCOMP_RET_USER_NOTIF, "{:?}", row.call),
                        When::Never => assert_eq!(with(0, 0), NO_SUCH_CALL, "{:?}", row.call),
                        When::Bits(index, bits) => {
                            assert_eq!(with(index, bits & bits.wrapping_neg()), libc::SECCOMP_RET_USER_NOTIF);
                            assert_eq!(with(index, !bits), libc::SECCOMP_RET_ALLOW, "{:?}", row.call);
                        }
                        When::Is(index, value) => {
                            assert_eq!(with(index, value), libc::SECCOMP_RET_USER_NOTIF, "{:?}", row.call);
                            assert_eq!(with(index, 0xffff), libc::SECCOMP_RET_ALLOW, "{:?}", row.call);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_in_no_table_passes_and_what_is_foreign_dies() {
        let program = for_architectures(&ALL, Scope::Everything);
        let read = [(X86_64, 0), (I386, 3), (AARCH64, 63)];
        for (architecture, number) in read {
            assert_eq!(run(&program, architecture, number, [0; 6]), libc::SECCOMP_RET_ALLOW);
        }
        assert_eq!(run(&program, 0x4000_0028, 3, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(run(&program, X86_64, X32 | 4, [0; 6]), NO_SUCH_CALL);
    }

    #[test]
    fn a_range_of_ids_is_asked_for_few_calls() {
        let program = for_architectures(&ALL, Scope::Remainder);
        let chown = run(&program, X86_64, 92, [0; 6]);
        let [stat, get_user, execute] = [4, 102, 59].map(|number| run(&program, X86_64, number, [0; 6]));
        assert_eq!(chown, libc::SECCOMP_RET_USER_NOTIF);
        assert_eq!([stat, get_user, execute], [libc::SECCOMP_RET_ALLOW; 3]);
    }

    #[test]
    fn the_kernel_takes_it() {
        // Spec: BPF_MAXINSNS.
        assert!(for_architectures(&ALL, Scope::Everything).len() <= 4096);
    }
}
