//! The buffers of the values of a pass. While a pass is recorded, every value has its own place in
//! memory; when it is played, values whose lifetimes don't overlap share buffers.

use super::source::{Place, Source};
use super::{Operand, Port};
use std::collections::{BTreeMap, HashMap};

/// A value that an input or a launch leaves in a place.
struct Value {
    bytes: u64,
    /// The launches that first write and last access it.
    first: usize,
    last: usize,
    /// Whether it has a buffer to itself, as inputs and outputs do.
    own: bool,
}

/// The treatment of operands that no recorded launch wrote and that weren't declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// The pass can't be recorded.
    Refused,
    /// The operand becomes an input.
    Inputs,
}

/// The values of a pass, collected launch by launch.
pub(super) struct Values<'a> {
    sources: &'a HashMap<Place, Source>,
    unknown: Unknown,
    values: Vec<Value>,
    written: HashMap<Place, usize>,
    /// The inputs by name; their buffers are numbers of values.
    inputs: BTreeMap<String, Port>,
}

impl<'a> Values<'a> {
    /// Returns the values before the first launch.
    pub fn new(sources: &'a HashMap<Place, Source>, unknown: Unknown) -> Self {
        let mut values = Self {
            sources,
            unknown,
            values: Vec::new(),
            written: HashMap::new(),
            inputs: BTreeMap::new(),
        };
        let mut inputs: Vec<_> = sources
            .values()
            .filter_map(|source| match source {
                Source::Input { name, shape } => Some((name, shape)),
                Source::Tensor(_) => None,
            })
            .collect();
        // A hash map has no fixed order.
        inputs.sort();
        for (name, shape) in inputs {
            values.add_input(name, shape.clone());
        }
        values
    }

    fn add_input(&mut self, name: &str, shape: Vec<usize>) -> usize {
        let (bytes, buffer) = (4 * shape.iter().product::<usize>() as u64, self.values.len());
        self.values.push(Value { bytes, first: 0, last: 0, own: true });
        self.inputs.insert(name.to_owned(), Port { buffer, shape });
        buffer
    }

    /// Returns what launch number `at` binds; buffers are numbers of values. `operands` are places
    /// and bytes.
    ///
    /// # Errors
    /// If it reads a value of unknown origin, or writes to an input or a weight; the error is a
    /// message.
    pub fn operands(
        &mut self,
        at: usize,
        operands: &[(Place, u64)],
        writes: &[bool],
    ) -> Result<Vec<Operand>, String> {
        let written: Vec<Place> = operands
            .iter()
            .zip(writes)
            .filter(|(_, write)| **write)
            .map(|((place, _), _)| *place)
            .collect();
        let each = operands.iter().zip(writes).enumerate();
        each.map(|(i, ((place, bytes), &write))| {
            self.operand(at, i, *place, *bytes, write, &written)
        })
        .collect()
    }

    fn operand(
        &mut self,
        at: usize,
        i: usize,
        place: Place,
        bytes: u64,
        write: bool,
        written: &[Place],
    ) -> Result<Operand, String> {
        if !write && written.contains(&place) {
            // No kernel reads through one binding what it writes through another: here the result
            // stands in for an absent operand.
            return Ok(Operand::Spare(()));
        }
        let value = match (self.sources.get(&place), self.written.get(&place)) {
            (Some(Source::Tensor(name)), _) if !write => return Ok(Operand::Tensor(name.clone())),
            (Some(Source::Input { name, .. }), _) if !write => self.inputs[name].buffer,
            (Some(_), _) => {
                return Err(format!("it writes to operand {i}, which is an input or a weight"));
            }
            (None, Some(value)) => *value,
            (None, None) if write => {
                self.values.push(Value { bytes, first: at, last: at, own: false });
                self.written.insert(place, self.values.len() - 1);
                self.values.len() - 1
            }
            (None, None) if self.unknown == Unknown::Inputs => {
                let value = self
                    .add_input(&format!("operand {}", self.inputs.len()), vec![bytes as usize / 4]);
                self.written.insert(place, value);
                value
            }
            (None, None) => {
                return Err(format!(
                    "it reads operand {i}, which no recorded launch wrote and which is neither an \
                     input nor a weight: an operation without one of our kernels computed it"
                ));
            }
        };
        self.values[value].last = at;
        Ok(Operand::Buffer(value))
    }

    /// Returns the value in `place` and gives it a buffer of its own. `None` if no launch wrote it.
    pub fn output(&mut self, place: Place) -> Option<usize> {
        let value = *self.written.get(&place)?;
        self.values[value].own = true;
        Some(value)
    }

    /// Returns the inputs; their buffers are numbers of values.
    pub fn inputs(&self) -> BTreeMap<String, Port> {
        self.inputs.clone()
    }

    /// Returns the bytes of each buffer, and the buffer of each value.
    pub fn buffers(&self) -> (Vec<u64>, Vec<usize>) {
        // For each shared buffer: its number, and the last launch that needs its contents.
        let mut shared: Vec<(usize, usize)> = Vec::new();
        let mut sizes: Vec<u64> = Vec::new();
        let of = self.values.iter().map(|value| {
            let bytes = value.bytes.next_multiple_of(16);
            if !value.own {
                let free = shared.iter_mut().filter(|(_, last)| *last < value.first);
                // The smallest that is large enough, otherwise the largest.
                let best = free.min_by_key(|(buffer, _)| match sizes[*buffer] {
                    size if size >= bytes => (false, size),
                    size => (true, u64::MAX - size),
                });
                if let Some((buffer, last)) = best {
                    *last = value.last;
                    sizes[*buffer] = sizes[*buffer].max(bytes);
                    return *buffer;
                }
                shared.push((sizes.len(), value.last));
            }
            sizes.push(bytes);
            sizes.len() - 1
        });
        let of = of.collect();
        (sizes, of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(memory: usize) -> Place {
        Place { memory, first: 0 }
    }

    /// Returns the buffers of a chain of launches, each of which computes the next value from the
    /// previous one (0 is the input) and a weight. The last launch also reads value 1.
    fn chain(lengths: &[u64]) -> (Vec<u64>, Vec<usize>) {
        let input = Source::Input { name: "x".into(), shape: vec![4] };
        let sources = [(place(0), input), (place(100), Source::Tensor("w".into()))].into();
        let mut values = Values::new(&sources, Unknown::Refused);
        for (at, &bytes) in lengths.iter().enumerate() {
            let mut operands = vec![(place(at), 0), (place(100), 16), (place(at + 1), bytes)];
            let mut writes = vec![false, false, true];
            if at + 1 == lengths.len() {
                operands.push((place(1), 0));
                writes.push(false);
            }
            let bound = values.operands(at, &operands, &writes).expect("known operands");
            assert_eq!(
                bound[..3],
                [Operand::Buffer(at), Operand::Tensor("w".into()), Operand::Buffer(at + 1)]
            );
        }
        assert_eq!(values.inputs()["x"], Port { buffer: 0, shape: vec![4] });
        values.output(place(lengths.len())).expect("written");
        values.buffers()
    }

    #[test]
    fn values_share_buffers_if_their_lifetimes_do_not_overlap() {
        let (sizes, of) = chain(&[64, 64, 32, 48, 64, 16]);
        // Value 1 lives to the end; 2 and 4 share a buffer, and so do 3 and 5; input and output
        // have buffers of their own.
        assert_eq!(of, [0, 1, 2, 3, 2, 3, 4]);
        assert_eq!(sizes, [16, 64, 64, 64, 16]);
        assert!(of[2] != of[1] && of[3] != of[2] && of[6] != of[1]);
    }

    #[test]
    fn a_result_that_stands_in_for_an_operand_is_spare() {
        let sources = [(place(0), Source::Input { name: "x".into(), shape: vec![4] })].into();
        let mut values = Values::new(&sources, Unknown::Refused);
        let bound = values.operands(
            0,
            &[(place(0), 16), (place(1), 16), (place(1), 16)],
            &[false, false, true],
        );
        assert_eq!(
            bound.expect("known operands"),
            [Operand::Buffer(0), Operand::Spare(()), Operand::Buffer(1)]
        );
    }

    #[test]
    fn reading_unknown_values_and_writing_to_weights_are_refused() {
        let sources = [(place(0), Source::Tensor("w".into()))].into();
        let mut values = Values::new(&sources, Unknown::Refused);
        let unknown = values
            .operands(0, &[(place(5), 16), (place(1), 16)], &[false, true])
            .expect_err("unknown");
        assert!(unknown.contains("it reads operand 0"), "{unknown}");
        let into = values.operands(0, &[(place(0), 16)], &[true]).expect_err("a weight");
        assert!(into.contains("it writes to operand 0"), "{into}");
        assert!(values.output(place(7)).is_none());
        let mut timed = Values::new(&sources, Unknown::Inputs);
        let bound =
            timed.operands(0, &[(place(5), 16), (place(1), 16)], &[false, true]).expect("an input");
        assert_eq!(bound, [Operand::Buffer(0), Operand::Buffer(1)]);
        assert_eq!(timed.inputs()["operand 0"], Port { buffer: 0, shape: vec![4] });
    }
}
