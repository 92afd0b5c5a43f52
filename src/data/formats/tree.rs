//! Infers sets and classes from the folders in the paths of images.

use crate::data::listing::Set;
use std::collections::BTreeSet;

/// The sets and classes that the paths imply.
pub(super) struct Tree {
    /// Class and set of each image, and whether the set is for validation. An image may have no
    /// class while others have one.
    pub images: Vec<Place>,
    /// Whether there are classes.
    pub classes: bool,
    /// How the folders were read, as a sentence fragment.
    pub reading: &'static str,
}

/// Class and set of one image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub class: Option<String>,
    pub set: Option<(Set, bool)>,
}

impl Tree {
    /// Reads paths with forward slashes. Leading folders shared by all paths are ignored, unless
    /// they are named as sets. The first folders are sets if all of them are named as sets and one
    /// is for training; otherwise they are classes.
    pub fn of(paths: &[&str]) -> Self {
        let mut folders: Vec<Vec<&str>> =
            paths.iter().map(|path| path.split('/').collect()).collect();
        for parts in &mut folders {
            parts.pop();
        }
        let mut depth = 0;
        while let Some(common) = folders.first().and_then(|first| first.get(depth)).copied() {
            if Set::named(common).is_some()
                || folders.iter().any(|parts| parts.get(depth) != Some(&common))
            {
                break;
            }
            depth += 1;
        }
        let part =
            |parts: &[&str], level: usize| parts.get(depth + level).map(|part| (*part).to_owned());
        let firsts: BTreeSet<Option<&str>> =
            folders.iter().map(|parts| parts.get(depth).copied()).collect();
        let set = |name: &Option<&str>| name.and_then(Set::named);
        let splits = firsts.iter().all(|name| set(name).is_some())
            && firsts.iter().any(|name| set(name) == Some((Set::Train, false)));
        let place = |parts: &Vec<&str>| match splits {
            true => Place { class: part(parts, 1), set: set(&parts.get(depth).copied()) },
            false => Place { class: part(parts, 0), set: None },
        };
        let images: Vec<Place> = folders.iter().map(place).collect();
        let classes = images.iter().any(|image| image.class.is_some());
        let reading = match (splits, classes) {
            (true, true) => "its first folders are the sets, those in them the classes",
            (true, false) => "its first folders are the sets, and there are no classes",
            (false, true) => "its first folders are the classes",
            (false, false) => "there are no classes",
        };
        Self { images, classes, reading }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(paths: &[&str]) -> Vec<Place> {
        Tree::of(paths).images
    }

    fn place(class: Option<String>, set: Option<(Set, bool)>) -> Place {
        Place { class, set }
    }

    fn class(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    #[test]
    fn first_folders_are_sets_only_where_all_are_and_one_is_for_training() {
        let (train, test, val) =
            (Some((Set::Train, false)), Some((Set::Test, false)), Some((Set::Test, true)));
        assert_eq!(
            places(&["train/cat/1.png", "TEST/dog/1.png"]),
            [place(class("cat"), train), place(class("dog"), test)]
        );
        assert_eq!(places(&["train/1.png", "val/1.png"]), [place(None, train), place(None, val)]);
        assert_eq!(
            places(&["test/1.png", "val/1.png"]),
            [place(class("test"), None), place(class("val"), None)]
        );
        assert_eq!(
            places(&["train/a/1.png", "ship/b/1.png"]),
            [place(class("train"), None), place(class("ship"), None)]
        );
        // A single set is still a set.
        assert_eq!(
            places(&["train/cat/1.png", "train/dog/1.png"]),
            [place(class("cat"), train), place(class("dog"), train)]
        );
    }

    #[test]
    fn a_common_folder_is_ignored() {
        assert_eq!(
            places(&["photos/all/cat/1.png", "photos/all/dog/x/1.png"]),
            [place(class("cat"), None), place(class("dog"), None)]
        );
        assert_eq!(
            places(&["photos/1.png", "photos/2.png"]),
            [place(None, None), place(None, None)]
        );
        let beside = Tree::of(&["cat/1.png", "2.png"]);
        assert_eq!((beside.classes, &beside.images[1]), (true, &Place::default()));
        assert!(!Tree::of(&[]).classes);
    }
}
