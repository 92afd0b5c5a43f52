//! Names of images: of their files, or their positions if they don't come from files.

use std::borrow::Cow;

/// A name for each of N images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// `train:0`, `train:1` and so on; holds the word before the colon.
    Numbered(&'static str),
    /// A selection of numbered names, by number.
    Some(&'static str, Vec<u32>),
    /// Names of their own.
    Own {
        /// All names, concatenated.
        text: String,
        /// The end of each name in the text.
        ends: Vec<u64>,
    },
}

impl Names {
    /// Returns an empty list of own names, to be filled with [`Self::push`].
    pub fn own() -> Self {
        Self::Own { text: String::new(), ends: Vec::new() }
    }

    /// Appends a name.
    ///
    /// # Panics
    /// If they are numbered.
    pub fn push(&mut self, name: &str) {
        let Self::Own { text, ends } = self else { panic!("numbered names are complete") };
        text.push_str(name);
        ends.push(text.len() as u64);
    }

    /// Returns the name of image `i`.
    pub fn get(&self, i: usize) -> Cow<'_, str> {
        match self {
            Self::Numbered(set) => format!("{set}:{i}").into(),
            Self::Some(set, numbers) => format!("{set}:{}", numbers[i]).into(),
            Self::Own { .. } => self.own_of(i).expect("its own").into(),
        }
    }

    /// Returns the name of image `i` if it isn't just a number.
    pub fn own_of(&self, i: usize) -> Option<&str> {
        let Self::Own { text, ends } = self else { return None };
        let start = if i == 0 { 0 } else { ends[i - 1] as usize };
        Some(&text[start..ends[i] as usize])
    }

    /// Selects the names of `indices`, in that order. They stay what they were: `test:17` doesn't
    /// become `test:0`.
    pub fn select(&self, indices: impl Iterator<Item = usize>) -> Self {
        match self {
            Self::Numbered(set) => Self::Some(set, indices.map(|i| i as u32).collect()),
            Self::Some(set, numbers) => Self::Some(set, indices.map(|i| numbers[i]).collect()),
            Self::Own { .. } => {
                let mut names = Self::own();
                indices.for_each(|i| names.push(&self.get(i)));
                names
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_with_their_images() {
        let mut own = Names::own();
        ["a/1.png", "", "ü.jpg"].into_iter().for_each(|name| own.push(name));
        assert_eq!([0, 1, 2].map(|i| own.get(i).into_owned()), ["a/1.png", "", "ü.jpg"]);
        let chosen = own.select([2, 0].into_iter());
        assert_eq!([0, 1].map(|i| chosen.get(i).into_owned()), ["ü.jpg", "a/1.png"]);
        let numbered = Names::Numbered("test").select([17, 3].into_iter());
        assert_eq!((numbered.get(0), numbered.own_of(0)), ("test:17".into(), None));
        assert_eq!(numbered.select([1].into_iter()).get(0), "test:3");
    }
}
