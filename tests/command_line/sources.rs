//! Rules for the source code: `unsafe` only in the kernels, and once each in device/memory.rs and
//! main.rs, each with its reason;
//! network access only for downloading data and between ranks.

use std::path::Path;

/// Where `unsafe` is allowed; in a file (not a folder) once.
const UNSAFE: [&str; 3] = ["src/kernels/", "src/main.rs", "src/device/memory.rs"];
/// In tests: a counting allocator, and this file, where it is in strings.
const UNSAFE_IN_TESTS: [&str; 2] = ["tests/parsers/memory.rs", "tests/command_line/sources.rs"];
/// Separate fault-injection libraries: unsafe throughout, and not part of the program.
const FAULTS: [&str; 2] =
    ["tests/recovery/faults/preload.rs", "tests/recovery/faults/vulkan_layer.rs"];
/// What may talk to other machines, and its tests; and what tells the ranks of a run that one of
/// them is gone.
const NETWORK: [&str; 4] = [
    "src/data/source.rs",
    "src/data/source/tests.rs",
    "src/ranks/watch.rs",
    "tests/command_line/data.rs",
];
/// Names that a Rust program needs for network access.
const NETWORK_WORDS: [&str; 10] = [
    "ureq",
    "std::net",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "ToSocketAddrs",
    "reqwest",
    "hyper::",
    "libc::",
];
/// Programs that could access the network instead.
const NETWORK_PROGRAMS: [&str; 3] = ["\"curl\"", "\"wget\"", "\"ssh\""];

/// Names that exist only on Unix.
const UNIX_WORDS: [&str; 3] = ["os::unix", "os::fd", "mkfifo"];
/// Files whose `mod` line is behind `cfg(unix)`.
const UNIX_FILES: [&str; 1] = ["src/files/tests.rs"];

/// Returns all Rust source files with their paths from the root.
fn sources() -> Vec<(String, String)> {
    fn collect(folder: &Path, out: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                collect(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("below the root");
                let name = name.to_string_lossy().replace('\\', "/");
                out.push((name, std::fs::read_to_string(&path).expect("readable")));
            }
        }
    }
    let mut out = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut out);
    }
    out.sort();
    out
}

/// Returns the line without what follows `//` (in strings too: no keyword follows there).
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Checks whether `line` contains `word` as a whole word.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part))
}

/// Returns the lines of a source file that have `unsafe` where it isn't allowed, or without a
/// reason. A reason is required of blocks and `impl`s; an `unsafe fn` within a trait's `impl`
/// demands something of its callers, and does nothing itself.
fn wrong_unsafe(name: &str, text: &str) -> Vec<String> {
    if FAULTS.contains(&name) {
        return Vec::new();
    }
    let lines: Vec<&str> = text.lines().collect();
    let uses: Vec<usize> =
        (0..lines.len()).filter(|i| has_word(code(lines[*i]), "unsafe")).collect();
    let allowed =
        UNSAFE.iter().any(|place| name.starts_with(place)) || UNSAFE_IN_TESTS.contains(&name);
    let mut wrong = Vec::new();
    for (nth, i) in uses.iter().enumerate() {
        let at = format!("{name}:{}: {}", i + 1, lines[*i].trim());
        if !allowed || (nth > 0 && !name.starts_with(UNSAFE[0]) && name.starts_with("src/")) {
            wrong.push(format!("{at}: not here"));
        } else if name != UNSAFE_IN_TESTS[1]
            && !code(lines[*i]).contains("unsafe fn")
            && !has_reason(&lines[..*i])
        {
            wrong.push(format!("{at}: without a SAFETY comment"));
        }
    }
    wrong
}

/// Checks whether `before` ends with a comment that gives a reason, or with the first lines of a
/// statement below one.
fn has_reason(before: &[&str]) -> bool {
    let mut lines = before.iter().rev().map(|line| line.trim()).peekable();
    // The statement may start up to three lines before.
    for _ in 0..3 {
        if lines.peek().is_some_and(|line| !line.starts_with("//") && !line.ends_with([';', '}'])) {
            lines.next();
        }
    }
    lines
        .take_while(|line| line.starts_with("//"))
        .any(|line| line.starts_with("// SAFETY: ") && line.len() > 30)
}

/// Returns the lines of a source file that could access the network where it isn't allowed.
fn wrong_network(name: &str, text: &str) -> Vec<String> {
    let allowed = NETWORK.contains(&name) || name == "tests/command_line/sources.rs";
    let reaches = |line: &str| {
        NETWORK_WORDS
            .iter()
            .any(|word| has_word(line, word) || (word.ends_with(':') && line.contains(word)))
            || NETWORK_PROGRAMS.iter().any(|program| line.contains(program))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !allowed && reaches(code(line)));
    lines.map(|(i, line)| format!("{name}:{}: {}", i + 1, line.trim())).collect()
}

#[test]
fn unsafe_is_only_in_the_kernels_and_in_main_each_with_its_reason() {
    let sources = sources();
    assert!(sources.len() > 150, "only {} sources were found", sources.len());
    let wrong: Vec<String> =
        sources.iter().flat_map(|(name, text)| wrong_unsafe(name, text)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The rule has an effect: the kernels and main have some, and the compiler rejects it
    // elsewhere.
    let uses = |name: &str| {
        let of_place = sources.iter().filter(|(n, _)| n.starts_with(name));
        of_place
            .flat_map(|(_, text)| text.lines())
            .filter(|line| has_word(code(line), "unsafe"))
            .count()
    };
    assert!(uses("src/kernels/") >= 5 && uses("src/main.rs") == 1);
    let cargo = include_str!("../../Cargo.toml");
    assert!(cargo.contains("unsafe_code = \"deny\""));
    let exceptions = |name: &str| {
        sources.iter().any(|(n, text)| n == name && text.contains("allow(unsafe_code)"))
    };
    let all: Vec<&str> =
        sources.iter().map(|(name, _)| name.as_str()).filter(|name| exceptions(name)).collect();
    assert_eq!(
        all,
        [
            "src/device/memory.rs",
            "src/kernels/mod.rs",
            "src/main.rs",
            "tests/command_line/sources.rs",
            "tests/parsers/memory.rs"
        ]
    );
}

#[test]
fn only_the_download_of_data_and_ranks_access_the_network() {
    let sources = sources();
    let wrong: Vec<String> =
        sources.iter().flat_map(|(name, text)| wrong_network(name, text)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let download = sources.iter().find(|(name, _)| name == NETWORK[0]).expect("the download");
    assert!(
        !wrong_network("src/elsewhere.rs", &download.1).is_empty(),
        "the download would pass anywhere"
    );
}

#[test]
fn violations_of_the_rules_are_detected() {
    let block = "fn f() {\n    // SAFETY: the slice was checked to be as long as that.\n    \
                 let x =\n        unsafe { g() };\n}\n";
    assert!(wrong_unsafe("src/kernels/a.rs", block).is_empty());
    for (name, text) in [
        ("src/data/a.rs", block.to_owned()),
        ("tests/a.rs", block.to_owned()),
        ("src/main.rs", block.repeat(2)),
        ("src/kernels/a.rs", block.replace("SAFETY", "Safety")),
        ("src/kernels/a.rs", block.replace("the slice was checked to be as long as that.", "fine")),
        (
            "src/kernels/a.rs",
            "// SAFETY: of the statement before, which is over.\nlet a = 1;\nunsafe { g() };"
                .to_owned(),
        ),
        ("src/kernels/a.rs", "unsafe impl Send for A {}".to_owned()),
    ] {
        assert_eq!(wrong_unsafe(name, &text).len(), 1, "{name}: {text}");
    }
    for text in ["// unsafe", "let unsafe_code = 1;", "an_unsafe();", "unsafe fn f();"] {
        assert!(wrong_unsafe("src/kernels/a.rs", text).is_empty(), "{text}");
    }
    for line in [
        "use std::net::TcpStream;",
        "ureq::get(url)",
        "Command::new(\"curl\")",
        "unix::net::UnixStream::connect(p)",
    ] {
        assert_eq!(wrong_network("src/eval/a.rs", line).len(), 1, "{line}");
        assert!(wrong_network(NETWORK[0], line).is_empty(), "{line}");
    }
    assert!(
        wrong_network("src/eval/a.rs", "let fraction = sequreq + 1; // as std::net").is_empty()
    );
}

/// Returns the lines of a source file that use names that exist only on Unix, outside files and
/// items behind `cfg(unix)`.
fn unguarded_unix(name: &str, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    if UNIX_FILES.contains(&name) || lines.iter().any(|line| line.starts_with("#![cfg(unix)]")) {
        return Vec::new();
    }
    let indent = |line: &str| line.len() - line.trim_start().len();
    let guarded = |at: usize| {
        let attribute = (0..at).rev().find(|i| lines[*i].trim_start().starts_with("#[cfg(unix)]"));
        // The item mustn't have ended before.
        attribute.is_some_and(|i| {
            !lines[i..at].iter().any(|line| line.trim() == "}" && indent(line) == indent(lines[i]))
        })
    };
    let uses =
        (0..lines.len()).filter(|i| UNIX_WORDS.iter().any(|word| code(lines[*i]).contains(word)));
    uses.filter(|i| !guarded(*i))
        .map(|i| format!("{name}:{}: {}", i + 1, lines[i].trim()))
        .collect()
}

#[test]
fn names_that_exist_only_on_unix_are_behind_cfg() {
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|(name, _)| name.starts_with("src/"))
        .flat_map(|(name, text)| unguarded_unix(name, text))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Negative controls.
    let behind = "#[cfg(unix)]\nfn f() {\n    use std::os::unix::fs;\n}\n";
    assert!(unguarded_unix("src/a.rs", behind).is_empty());
    assert_eq!(unguarded_unix("src/a.rs", &format!("{behind}use std::os::unix::fs;\n")).len(), 1);
    assert_eq!(unguarded_unix("src/a.rs", "fn f(x: impl std::os::fd::AsFd) {}\n").len(), 1);
}
