//! Which frames a capture wants: programs of the classic Berkeley Packet Filter, as `tcpdump -ddd` prints
//! them (USENIX Winter 1993).
//!
//! ```text
//! tcp port 80 ──tcpdump -ddd──► (code, jt, jf, k) … ──Program::new──► steps that cannot go wrong ──► yes, no
//! ```
//!
//! A program is checked once, where it comes in: every code is known, every jump goes forward and stays
//! inside, it ends with a verdict, and it reads nothing but the frame. So running it takes at most one
//! step for each instruction, and there is nothing left to fail but reading behind the frame's end, which
//! means no, as in the kernel.

use std::str::FromStr;

/// Most instructions of a program: a long expression has a few dozen.
pub const INSTRUCTIONS_MAX: usize = 512;
/// Numbers a program may remember.
const MEMORY: usize = 16;
/// Offsets from here on are the kernel's own (`SKF_AD_OFF`): what device, which CPU.
const NOT_THE_FRAME: u32 = 0x8000_0000;

/// An instruction as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip if a test holds.
    pub jt: u8,
    /// And if it does not.
    pub jf: u8,
    /// A number.
    pub k: u32,
}

/// Why a program is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// None, or too many instructions.
    #[error("expected a filter of 1 to {INSTRUCTIONS_MAX} instructions, not {0}; make it simpler")]
    Length(usize),
    /// It is not written as it should be.
    #[error(
        "expected `code.jt.jf.k` for each instruction of a filter, joined by `_`; instruction {0} is not"
    )]
    Text(usize),
    /// A code that does not exist, or does not make sense.
    #[error("instruction {0} of the filter is none of the classic BPF, or divides by zero")]
    Code(usize),
    /// A jump out of it.
    #[error("instruction {0} of the filter jumps out of it")]
    Jump(usize),
    /// It may run out without a verdict.
    #[error("the filter does not end with a verdict")]
    Endless,
    /// It asks for what is not in the frame.
    #[error(
        "instruction {0} of the filter asks for what is not in the frame (the device, the direction); \
         expected a filter over bytes: --port, --before and --after choose the rest"
    )]
    NotTheFrame(usize),
}

/// How many bytes are read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Word,
    Half,
    Byte,
}

/// Where a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Number(u32),
    Memory(usize),
    Length,
    /// Bytes of the frame.
    At(usize, Size),
    /// Bytes of the frame, counted from X.
    Behind(usize, Size),
    /// Four times the low half of a byte: the length of an IPv4 header.
    HeaderLength(usize),
}

/// The other side of a calculation or test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    Number(u32),
    X,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Or,
    And,
    Xor,
    Left,
    Right,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

/// An instruction that makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Load(Source),
    LoadX(Source),
    Store(usize),
    StoreX(usize),
    Calculate(Operation, Operand),
    Negate,
    Jump(usize),
    Branch(Test, Operand, usize, usize),
    Accept(u32),
    AcceptA,
    AToX,
    XToA,
}

/// A program that is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(Box<[Step]>);

/// The program's registers.
struct Machine<'a> {
    frame: &'a [u8],
    a: u32,
    x: u32,
    memory: [u32; MEMORY],
}

impl Machine<'_> {
    /// `None` behind the frame's end.
    fn read(&self, at: usize, size: Size) -> Option<u32> {
        let bytes = self.frame.get(at..)?;
        Some(match size {
            Size::Word => u32::from_be_bytes(*bytes.first_chunk()?),
            Size::Half => u16::from_be_bytes(*bytes.first_chunk()?).into(),
            Size::Byte => u32::from(*bytes.first()?),
        })
    }

    fn value(&self, source: Source) -> Option<u32> {
        match source {
            Source::Number(number) => Some(number),
            Source::Memory(at) => self.memory.get(at).copied(),
            Source::Length => u32::try_from(self.frame.len()).ok(),
            Source::At(at, size) => self.read(at, size),
            Source::Behind(at, size) => self.read(at + self.x as usize, size),
            Source::HeaderLength(at) => Some((self.read(at, Size::Byte)? & 15) * 4),
        }
    }

    fn operand(&self, operand: Operand) -> u32 {
        match operand {
            Operand::Number(number) => number,
            Operand::X => self.x,
        }
    }

    /// `None` where X is zero and divides.
    fn calculate(&self, operation: Operation, by: u32) -> Option<u32> {
        let a = self.a;
        Some(match operation {
            Operation::Add => a.wrapping_add(by),
            Operation::Subtract => a.wrapping_sub(by),
            Operation::Multiply => a.wrapping_mul(by),
            Operation::Divide => a.checked_div(by)?,
            Operation::Remainder => a.checked_rem(by)?,
            Operation::Or => a | by,
            Operation::And => a & by,
            Operation::Xor => a ^ by,
            Operation::Left => a.checked_shl(by).unwrap_or(0),
            Operation::Right => a.checked_shr(by).unwrap_or(0),
        })
    }

    fn test(&self, test: Test, with: u32) -> bool {
        match test {
            Test::Equal => self.a == with,
            Test::Greater => self.a > with,
            Test::GreaterOrEqual => self.a >= with,
            Test::AnyBit => self.a & with != 0,
        }
    }

    fn store(&mut self, at: usize, value: u32) {
        if let Some(place) = self.memory.get_mut(at) {
            *place = value;
        }
    }
}

impl Program {
    /// Checks a program.
    pub fn new(instructions: &[Instruction]) -> Result<Self, FilterError> {
        let count = instructions.len();
        if !(1..=INSTRUCTIONS_MAX).contains(&count) {
            return Err(FilterError::Length(count));
        }
        let steps = instructions.iter().enumerate().map(|(at, it)| step(at, *it, count));
        let steps: Box<[Step]> = steps.collect::<Result<_, _>>()?;
        match steps.last() {
            Some(Step::Accept(_) | Step::AcceptA) => Ok(Self(steps)),
            _ => Err(FilterError::Endless),
        }
    }

    /// Does it want this frame?
    pub fn wants(&self, frame: &[u8]) -> bool {
        self.run(frame).is_some_and(|verdict| verdict > 0)
    }

    /// The verdict: how many bytes are wanted. `None` if it reads behind the end.
    fn run(&self, frame: &[u8]) -> Option<u32> {
        let mut machine = Machine { frame, a: 0, x: 0, memory: [0; MEMORY] };
        let mut at = 0;
        // Jumps go forward only: each step is taken once at most.
        loop {
            let step = *self.0.get(at)?;
            at += 1;
            match step {
                Step::Load(source) => machine.a = machine.value(source)?,
                Step::LoadX(source) => machine.x = machine.value(source)?,
                Step::Store(place) => machine.store(place, machine.a),
                Step::StoreX(place) => machine.store(place, machine.x),
                Step::Calculate(operation, by) => {
                    machine.a = machine.calculate(operation, machine.operand(by))?;
                }
                Step::Negate => machine.a = machine.a.wrapping_neg(),
                Step::Jump(skip) => at += skip,
                Step::Branch(test, with, yes, no) => {
                    at += if machine.test(test, machine.operand(with)) { yes } else { no };
                }
                Step::Accept(bytes) => return Some(bytes),
                Step::AcceptA => return Some(machine.a),
                Step::AToX => machine.x = machine.a,
                Step::XToA => machine.a = machine.x,
            }
        }
    }
}

/// The instruction at `at` of `count`, if it makes sense. The codes are those of `<linux/bpf_common.h>`.
fn step(at: usize, instruction: Instruction, count: usize) -> Result<Step, FilterError> {
    let Instruction { code, jt, jf, k } = instruction;
    let wrong = FilterError::Code(at);
    let operand = if code & 0x08 == 0 { Operand::Number(k) } else { Operand::X };
    let inside =
        |skip: usize| if at + 1 + skip < count { Ok(skip) } else { Err(FilterError::Jump(at)) };
    let place = || if (k as usize) < MEMORY { Ok(k as usize) } else { Err(wrong) };
    Ok(match code {
        0x00 | 0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 | 0x60 | 0x80 => {
            Step::Load(source(at, code, k)?)
        }
        0x01 | 0x61 | 0x81 | 0xb1 => Step::LoadX(source(at, code, k)?),
        0x02 => Step::Store(place()?),
        0x03 => Step::StoreX(place()?),
        0x05 => Step::Jump(inside(k as usize)?),
        0x06 => Step::Accept(k),
        0x16 => Step::AcceptA,
        0x07 => Step::AToX,
        0x87 => Step::XToA,
        0x84 => Step::Negate,
        _ if code & 0x07 == 0x04 => {
            Step::Calculate(operation(code, operand).ok_or(wrong)?, operand)
        }
        _ if code & 0x07 == 0x05 => {
            let test = test(code).ok_or(wrong)?;
            Step::Branch(test, operand, inside(jt.into())?, inside(jf.into())?)
        }
        _ => return Err(wrong),
    })
}

/// What a load reads.
fn source(at: usize, code: u16, k: u32) -> Result<Source, FilterError> {
    let size = match code & 0x18 {
        0x00 => Size::Word,
        0x08 => Size::Half,
        _ => Size::Byte,
    };
    let offset = if k < NOT_THE_FRAME { Ok(k as usize) } else { Err(FilterError::NotTheFrame(at)) };
    Ok(match code & 0xe0 {
        0x00 => Source::Number(k),
        0x20 => Source::At(offset?, size),
        0x40 => Source::Behind(offset?, size),
        0x60 if (k as usize) < MEMORY => Source::Memory(k as usize),
        0x80 => Source::Length,
        0xa0 => Source::HeaderLength(offset?),
        _ => return Err(FilterError::Code(at)),
    })
}

/// `None` if there is no such operation, or it can have no result.
fn operation(code: u16, operand: Operand) -> Option<Operation> {
    let is_zero = operand == Operand::Number(0);
    Some(match code & !0x0f {
        0x00 => Operation::Add,
        0x10 => Operation::Subtract,
        0x20 => Operation::Multiply,
        0x30 if !is_zero => Operation::Divide,
        0x40 => Operation::Or,
        0x50 => Operation::And,
        0x60 => Operation::Left,
        0x70 => Operation::Right,
        0x90 if !is_zero => Operation::Remainder,
        0xa0 => Operation::Xor,
        _ => return None,
    })
}

fn test(code: u16) -> Option<Test> {
    Some(match code & !0x0f {
        0x10 => Test::Equal,
        0x20 => Test::Greater,
        0x30 => Test::GreaterOrEqual,
        0x40 => Test::AnyBit,
        _ => return None,
    })
}

impl FromStr for Program {
    type Err = FilterError;

    /// `code.jt.jf.k` for each instruction, joined by `_`: nothing that a URL would have to escape.
    fn from_str(text: &str) -> Result<Self, FilterError> {
        let instruction = |(at, text): (usize, &str)| {
            let mut fields = text.split('.');
            let mut next = || fields.next()?.parse::<u32>().ok();
            let read = (|| {
                let (code, jt, jf) = (next()?, next()?, next()?);
                let (code, k) = (u16::try_from(code).ok()?, next()?);
                Some(Instruction { code, jt: jt.try_into().ok()?, jf: jf.try_into().ok()?, k })
            })();
            read.filter(|_| fields.next().is_none()).ok_or(FilterError::Text(at))
        };
        let words = text.split('_').enumerate().take(INSTRUCTIONS_MAX + 1);
        Self::new(&words.map(instruction).collect::<Result<Vec<_>, _>>()?)
    }
}

#[cfg(test)]
mod tests;
