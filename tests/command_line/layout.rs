//! Tests of the structure of the sources: modules use only those declared before them, no files
//! depend on each other in a cycle, and the library leaves flags, the environment and the terminal
//! to the program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Returns the sources below src/, without comments and unit tests, by path relative to src/.
fn sources() -> BTreeMap<String, String> {
    fn collect(folder: &Path, root: &Path, out: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                collect(&path, root, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root).expect("below the root").to_string_lossy();
                let text = std::fs::read_to_string(&path).expect("readable");
                out.insert(name.replace('\\', "/"), code(&text));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut out = BTreeMap::new();
    collect(&root, &root, &mut out);
    // Files of unit tests.
    out.retain(|name, _| !name.ends_with("tests.rs") && !name.contains("/tests/"));
    out
}

/// Returns the text up to its unit tests, without comment lines.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Returns the module of a file: `kernels/conv2d/mod.rs` is `[kernels, conv2d]`.
fn module(file: &str) -> Vec<&str> {
    let mut path: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    if matches!(path[..], ["lib"] | ["main"]) || path.last() == Some(&"mod") {
        path.pop();
    }
    path
}

/// Returns the paths in the tree of a `use` declaration, each as its segments.
fn paths(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.split("::").map(|word| word.trim().to_owned()).collect()];
    };
    let head: Vec<String> =
        head.split("::").map(|w| w.trim().to_owned()).filter(|w| !w.is_empty()).collect();
    let inner = rest.trim_end().strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut start, mut out) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let branch = inner[start..at].trim();
                if !branch.is_empty() {
                    let with_head = |path| [head.clone(), path].concat();
                    out.extend(paths(branch).into_iter().map(with_head));
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    out
}

/// Returns every path of this crate that `text` names, in `use` declarations and elsewhere.
fn named(text: &str) -> Vec<Vec<String>> {
    let begins = |at: usize| {
        let before = text[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
    };
    let mut out = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(root).filter(|(at, _)| begins(*at)) {
            let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
            // `pub use` only re-exports what other files declare.
            if text[line..at].trim_start().starts_with("pub use ") {
                continue;
            }
            let end = match text[line..at].trim_start().starts_with("use ") {
                true => text[at..].find(';'),
                false => text[at..].find(|c: char| !c.is_alphanumeric() && !":_".contains(c)),
            };
            out.extend(paths(&text[at..at + end.unwrap_or(text.len() - at)]));
        }
    }
    out
}

/// Returns, for each file, the files whose items it uses.
fn uses(sources: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeSet<&str>> {
    let modules: BTreeMap<Vec<&str>, &str> =
        sources.keys().map(|file| (module(file), file.as_str())).collect();
    let resolved = |file: &str, path: &[String]| {
        let mut place = module(file);
        let mut words: Vec<&str> = path.iter().map(String::as_str).collect();
        if words.first() == Some(&"crate") {
            place.clear();
            words.remove(0);
        }
        while let Some(&word @ ("super" | "self")) = words.first() {
            if word == "super" {
                place.pop();
            }
            words.remove(0);
        }
        place.extend(words);
        (1..=place.len()).rev().find_map(|n| modules.get(&place[..n]).copied())
    };
    let of = |(file, text): (&'_ String, &String)| -> BTreeSet<&str> {
        let found = named(text).into_iter().filter_map(|path| resolved(file, &path));
        found.filter(|other| *other != file).collect()
    };
    sources.iter().map(|entry| (entry.0.as_str(), of(entry))).collect()
}

/// Returns the groups of files that depend on each other in a cycle.
fn circles<'a>(uses: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<Vec<&'a str>> {
    // A file that no other remaining file uses, or that uses none of them, is in no cycle.
    let mut rest: BTreeSet<&str> = uses.keys().copied().collect();
    loop {
        let used = |file: &str| {
            let others = rest.iter().filter(|other| **other != file);
            others.into_iter().any(|other| uses[other].contains(file))
        };
        let leaves: Vec<&str> = rest
            .iter()
            .copied()
            .filter(|file| !used(file) || uses[file].is_disjoint(&rest))
            .collect();
        if leaves.is_empty() {
            break;
        }
        rest.retain(|file| !leaves.contains(file));
    }
    // Groups the remaining files by mutual reachability.
    let reached = |from: &'a str| {
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![from]);
        while let Some(file) = waiting.pop() {
            waiting.extend(uses[file].iter().filter(|f| rest.contains(*f) && seen.insert(**f)));
        }
        seen
    };
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        rest.iter().map(|file| (*file, reached(file))).collect();
    let mut groups: Vec<Vec<&str>> = Vec::new();
    for file in &rest {
        let own = |other: &&&str| reach[file].contains(**other) && reach[*other].contains(file);
        let group: Vec<&str> = rest.iter().filter(own).copied().collect();
        if group.len() > 1 && !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

/// Returns the top-level module of a file.
fn room(file: &str) -> &str {
    file.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

#[test]
fn modules_use_only_those_that_are_declared_before_them() {
    let sources = sources();
    let declared = sources["lib.rs"]
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'));
    let order: Vec<&str> = declared.collect();
    let place = |name: &str| order.iter().position(|other| *other == name);
    let mut seen = 0;
    for (file, used) in uses(&sources) {
        // The program may use the whole library, and the prelude re-exports all of it.
        if matches!(room(file), "lib" | "main" | "cli" | "prelude") {
            continue;
        }
        for other in used {
            let (own, theirs) = (place(room(file)), place(room(other)));
            assert!(own.is_some() && theirs.is_some(), "{file} or {other} isn't declared");
            assert!(theirs <= own, "{file} uses {other}, whose module is declared after its own");
            seen += 1;
        }
    }
    assert!(seen > 500, "only {seen} uses were found");
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let sources = sources();
    let found = circles(&uses(&sources));
    assert!(found.is_empty(), "{found:#?}");

    let three = [
        ("a.rs", "use crate::b::{self, B};\n"),
        ("b.rs", "fn f() -> crate::c::d::E {}\n"),
        ("c/mod.rs", "mod d;\n"),
        ("c/d.rs", "use super::super::{a, a::A as B};\n"),
        ("e.rs", "use crate::a::A;\n"),
    ];
    let three = three.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    assert_eq!(circles(&uses(&three)), [["a.rs", "b.rs", "c/d.rs"]]);
}

#[test]
fn no_file_is_longer_than_400_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in sources().keys() {
        let text = std::fs::read_to_string(root.join(file)).expect("readable");
        assert!(text.lines().count() <= 400, "{file} has {} lines", text.lines().count());
    }
}

/// Returns the first text in a source of the library that belongs only in the program.
fn of_the_program(text: &str) -> Option<&str> {
    let is_flag = |at: usize| {
        let after = text[at + 2..].chars().next();
        text[..at].ends_with([' ', '"', '`', '(']) && after.is_some_and(|c| c.is_ascii_lowercase())
    };
    if let Some((at, _)) = text.match_indices("--").find(|(at, _)| is_flag(*at)) {
        return Some(text[at..].lines().next().unwrap_or_default());
    }
    let words = ["`soda ", "std::env::var", "std::env::args", "println!", "eprint!"];
    words.into_iter().find(|word| text.contains(word))
}

#[test]
fn the_library_names_no_flag_reads_no_environment_and_prints_nothing() {
    for (file, text) in sources() {
        let is_program = matches!(room(&file), "main" | "cli");
        // machine.rs asks git for the commit that produced a result.
        if !is_program && file != "machine.rs" {
            assert_eq!(of_the_program(&text), None, "{file}");
        }
    }
    for wrong in ["\"add --resume\"", "\"run `soda train`\"", "std::env::var(name)", "println!()"] {
        assert!(of_the_program(wrong).is_some(), "{wrong}");
    }
    assert_eq!(of_the_program("\"a -- b\""), None);
}
