//! Command lines as a user types them into a shell.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Quotes `word` so that a POSIX shell reads it as one word, and a program doesn't take it for a
/// flag. Every path and name in a printed command goes through it.
pub fn quoted(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref().to_string_lossy();
    as_word(if word.starts_with('-') { Cow::Owned(format!("./{word}")) } else { word })
}

/// Quotes a word that may be a flag.
fn as_word<'a>(word: impl Into<Cow<'a, str>>) -> String {
    let word = word.into();
    // Quoting fails only for NUL, which no path and no argument contains.
    shlex::try_quote(&word).unwrap_or(Cow::Borrowed(&word)).into_owned()
}

/// Returns the command line `words` of a process as a user types it, without the program's folder.
pub fn retyped(words: &[String]) -> String {
    let program = words.first().and_then(|program| Path::new(program).file_name()).map(quoted);
    program.into_iter().chain(words.iter().skip(1).map(as_word)).collect::<Vec<_>>().join(" ")
}

/// Returns `words` with each absolute path reduced to its last part, so that a command line that is
/// published doesn't show how the folders of a machine are named.
pub fn without_folders(words: &[String]) -> Vec<String> {
    let last = |path: &str| {
        let path = Path::new(path);
        let name = path.is_absolute().then(|| path.file_name())?;
        Some(name?.to_string_lossy().into_owned())
    };
    let shortened = |word: &String| match word.split_once('=') {
        Some((flag, value)) => last(value).map(|value| format!("{flag}={value}")),
        None => last(word),
    };
    words.iter().map(|word| shortened(word).unwrap_or_else(|| word.clone())).collect()
}

/// Returns `words` as the rest of a typed command line: each with a space before it.
pub fn continued(words: &[OsString]) -> String {
    words.iter().map(|word| format!(" {}", as_word(word.to_string_lossy()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retyped_command_line_has_the_same_words() {
        let words = [
            "/opt/my programs/soda",
            "train",
            "--run",
            "it's a run",
            "--set",
            "data.mean=[0.5, 0.5, 0.5]",
        ]
        .map(str::to_owned);
        let command = shlex::split(&retyped(&words)).expect("whole quotes");
        assert_eq!(command[0], "soda");
        assert_eq!(command[1..], words[1..]);
        assert_eq!(retyped(&[]), "");
    }

    #[cfg(unix)]
    #[test]
    fn only_absolute_paths_lose_their_folders() {
        let words =
            ["soda", "train", "--run", "/home/me/runs/a", "--data=/data/cifar/", "--config"]
                .map(str::to_owned);
        let kept = ["configs/small.toml", "--set", "train.lr=1e-3", "/", "-1/2", "vulkan:0"];
        let words = [&words[..], &kept.map(str::to_owned)].concat();
        let shortened = without_folders(&words);
        assert_eq!(shortened[..6], ["soda", "train", "--run", "a", "--data=cifar", "--config"]);
        assert_eq!(shortened[6..], kept);
    }

    #[test]
    fn a_shell_reads_each_word_back_and_plain_ones_stay_as_they_are() {
        for plain in ["runs/quick-1", "vulkan:0", "a_b.safetensors", "../x", "dx12:NVIDIA"] {
            assert_eq!(quoted(plain), plain);
        }
        let hostile = [
            "",
            "two words",
            "it's",
            "$HOME",
            "`id`",
            "a\"b",
            "a\\b",
            "a;b",
            "*",
            "~",
            "#a",
            "a\nb",
            "!!",
            "'",
            "k=v",
            "ü",
        ];
        for word in hostile {
            assert_eq!(shlex::split(&quoted(word)), Some(vec![word.to_owned()]), "{word:?}");
        }
        // Nor is a path taken for a flag. The flags of a command line stay as they are.
        assert_eq!(quoted("-r"), "./-r");
        let words = ["soda", "train", "--run=-r"].map(str::to_owned);
        assert_eq!(shlex::split(&retyped(&words)), Some(words.to_vec()));
        let command = hostile.map(quoted).join(" ");
        assert_eq!(shlex::split(&command), Some(hostile.map(str::to_owned).to_vec()));
        // Without quoting they are other words, or none at all.
        assert_ne!(shlex::split(&hostile.join(" ")), Some(hostile.map(str::to_owned).to_vec()));
    }

    #[cfg(unix)]
    #[test]
    fn the_shell_of_the_system_reads_the_same_words() {
        let words = ["two words", "it's", "$HOME `id` \"a\" \\ ; * ~ # !", "ü", ""];
        let command = format!("printf '%s\\n' {}", words.map(quoted).join(" "));
        let output =
            std::process::Command::new("sh").args(["-c", &command]).output().expect("a shell");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            words.map(|word| format!("{word}\n")).concat()
        );
    }
}
