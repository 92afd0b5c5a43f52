//! Mutations of inputs: bits, integers, pieces and words.

use super::engine::Layer;
use rand::RngExt;
use soda::rng::Stream;

/// Numbers at the limits of types and of what programs consider possible.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x0100_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 63,
    u64::MAX,
];

/// Those and other numbers as text.
const TEXTS: [&str; 22] = [
    "0",
    "1",
    "-1",
    "2",
    "255",
    "256",
    "65536",
    "1048576",
    "2147483648",
    "4294967295",
    "9223372036854775807",
    "18446744073709551616",
    "1e18",
    "1e400",
    "1e-400",
    "-0.0",
    "0.5",
    "nan",
    "inf",
    "null",
    "true",
    "[]",
];

/// Creates one input.
pub struct Mutator {
    rng: Stream,
    words: &'static [&'static str],
    longest: usize,
}

impl Mutator {
    /// Creates a mutator that uses `rng` and `words`, and whose inputs have at most `longest`
    /// bytes.
    pub fn new(rng: Stream, words: &'static [&'static str], longest: usize) -> Self {
        Self { rng, words, longest }
    }

    fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n.max(1))
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Mutates one of `pool`, every other time one of its first `seeds`: its bytes or, mostly, the
    /// contents of one of `layers`; sometimes of one layer after the other.
    pub fn input(&mut self, pool: &[Vec<u8>], seeds: usize, layers: &[Layer]) -> Vec<u8> {
        // Most of the pool is rejected early; valid inputs reach deep into the parser.
        let from = if self.one_in(2) { seeds } else { pool.len() };
        let mut out = pool[self.below(from)].clone();
        let other = &pool[self.below(pool.len())];
        for _ in 0..1 + self.below(2) {
            let layer = if layers.is_empty() || self.one_in(4) {
                None
            } else {
                Some(layers[self.below(layers.len())])
            };
            out = match layer {
                None => self.change(&out, other),
                Some(layer) => {
                    let mut mine = |inner: &[u8]| self.change(inner, other);
                    layer(&out, &mut mine).unwrap_or_else(|| self.change(&out, other))
                }
            };
            if self.one_in(2) {
                break;
            }
        }
        out.truncate(self.longest);
        out
    }

    /// Applies a few changes to `bytes`, one after the other.
    fn change(&mut self, bytes: &[u8], other: &[u8]) -> Vec<u8> {
        let mut out = bytes.to_vec();
        let textual = !self.words.is_empty() && out.iter().take(64).all(|b| (9..127).contains(b));
        for _ in 0..1 << self.below(4) {
            match textual && !self.one_in(4) {
                true => self.change_text(&mut out),
                false => self.change_bytes(&mut out, other),
            }
        }
        out
    }

    /// Picks a position and a length within `length` bytes, mostly a short one.
    fn span(&mut self, length: usize) -> (usize, usize) {
        let at = self.below(length);
        let most = if self.one_in(4) { length } else { 16 };
        (at, (1 + self.below(most)).min(length - at))
    }

    fn change_bytes(&mut self, out: &mut Vec<u8>, other: &[u8]) {
        let n = out.len();
        let (at, length) = self.span(n);
        match self.below(11) {
            0 if n > 0 => out[at] ^= 1 << self.below(8),
            1 if n > 0 => out[at] = self.below(256) as u8,
            2 if n > 0 => {
                // An integer of 1, 2, 4 or 8 bytes, in either byte order.
                let width = 1usize << self.below(4);
                let number = NUMBERS[self.below(NUMBERS.len())];
                let bytes = if self.one_in(2) {
                    number.to_le_bytes()
                } else {
                    (number << (64 - 8 * width)).to_be_bytes()
                };
                let end = (at + width).min(n);
                out[at..end].copy_from_slice(&bytes[..end - at]);
            }
            3 if n > 0 => out[at] = out[at].wrapping_add(self.below(35) as u8).wrapping_sub(17),
            4 => {
                let byte = self.below(256) as u8;
                let random = self.one_in(2);
                let new: Vec<u8> = (0..1 + self.below(16))
                    .map(|_| if random { self.below(256) as u8 } else { byte })
                    .collect();
                out.splice(at..at, new);
            }
            5 => drop(out.drain(at..at + length)),
            6 => {
                let piece = out[at..at + length].to_vec();
                let to = self.below(n);
                out.splice(to..to, piece);
            }
            7 if n > 0 => {
                let (to, _) = self.span(n);
                let length = length.min(n - at.max(to));
                let piece = out[at..at + length].to_vec();
                out.copy_within(to..to + length, at);
                out[to..to + length].copy_from_slice(&piece);
            }
            8 if self.one_in(3) => out.truncate(at),
            9 if !other.is_empty() => {
                // The start of this input and the end of another, or a piece of it.
                let (from, length) = self.span(other.len());
                match self.one_in(2) {
                    true => {
                        out.truncate(at);
                        out.extend_from_slice(&other[from..]);
                    }
                    false => drop(out.splice(at..at, other[from..from + length].iter().copied())),
                }
            }
            _ if !self.words.is_empty() => {
                let word = self.words[self.below(self.words.len())];
                let end = if self.one_in(2) { (at + word.len()).min(n) } else { at };
                out.splice(at..end, word.bytes());
            }
            _ if n > 0 => out[at] = !out[at],
            _ => out.push(0),
        }
    }

    fn change_text(&mut self, out: &mut Vec<u8>) {
        let n = out.len();
        let (at, _) = self.span(n);
        let text = match self.one_in(2) {
            true => TEXTS[self.below(TEXTS.len())],
            false => self.words[self.below(self.words.len())],
        };
        match self.below(6) {
            // A word or number is replaced.
            0..=2 => {
                let part = |b: &u8| b.is_ascii_alphanumeric() || b"._-+".contains(b);
                let start = out[at..].iter().position(part).map_or(n, |i| at + i);
                let end = out[start..].iter().position(|b| !part(b)).map_or(n, |i| start + i);
                out.splice(start..end, text.bytes());
            }
            3 => drop(out.splice(at..at, text.bytes())),
            4 => {
                // A line is duplicated or removed.
                let line = |b: &u8| *b == b'\n';
                let start = out[..at].iter().rposition(line).map_or(0, |i| i + 1);
                let end = out[at..].iter().position(line).map_or(n, |i| at + i + 1);
                let copy = out[start..end].to_vec();
                if self.one_in(2) {
                    out.splice(start..start, copy);
                } else {
                    out.drain(start..end);
                }
            }
            _ => {
                // Deep nesting, or a long run.
                let piece = ["[", "{", "{\"a\":", "a.", "(", "9", "\"", " "][self.below(8)];
                let times = 1 << self.below(10);
                out.splice(at..at, piece.repeat(times).bytes());
            }
        }
    }
}
