//! The loops of a disassembly and the kinds of their instructions. Reads the formats of RADV
//! (blocks BB0:), NAK (block 0 L1 [..] -> {), Intel (START B0, or LABEL0:) and nvdisasm (.L_x_0:).

use crate::instructions::{Kind, kind, width};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A basic block: instructions that are entered only at the first.
struct Block {
    name: String,
    /// Operations, each with the target if it is a branch.
    code: Vec<(String, Option<String>)>,
    /// The successors, if the disassembly lists them.
    successors: Option<Vec<String>>,
}

impl Block {
    fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), code: Vec::new(), successors: None }
    }
}

/// The number of instructions of each kind.
type Counts = BTreeMap<Kind, usize>;

/// A loop: the instructions that belong to no inner loop.
#[derive(Debug)]
pub struct Loop {
    /// The name of its first block.
    pub name: String,
    header: usize,
    /// The header of the smallest enclosing loop.
    parent: Option<usize>,
    /// The number of inner loops.
    pub inner: usize,
    pub counts: Counts,
}

/// The machine code of a shader.
#[derive(Debug)]
pub struct Code {
    pub loops: Vec<Loop>,
    /// The instructions of the whole shader.
    counts: Counts,
    /// The number of loads of global memory, by bytes per load; `stores` likewise.
    loads: BTreeMap<u32, usize>,
    stores: BTreeMap<u32, usize>,
}

fn trim(word: &str) -> &str {
    word.trim_matches(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))
}

/// Returns the message of an Intel `send`, which is on the next line.
fn message(line: &str) -> String {
    let unit = line.split_whitespace().next().unwrap_or("");
    let store = line.contains("store");
    let vector = (1..=4).rev().find(|n| line.contains(&format!("V{n},"))).unwrap_or(1);
    match unit {
        // The stateless surface is scratch memory.
        _ if line.contains(" ss )") => "spill".to_owned(),
        _ if line.contains("fence") => "fence".to_owned(),
        _ if line.contains("barrier") => "barrier".to_owned(),
        "slm" if store => "slm store".to_owned(),
        "slm" => "slm load".to_owned(),
        "ugm" if store => format!("ugm store d32 v{vector}"),
        "ugm" if line.contains("transpose") => "uniform load".to_owned(),
        "ugm" => format!("ugm load d32 v{vector}"),
        _ => "send".to_owned(),
    }
}

/// Parses one line of an Intel disassembly.
fn intel(all: &mut Vec<Block>, line: &str, words: &[&str]) {
    let last = all.last_mut().expect("a block");
    if words[0].starts_with("send") {
        // The message follows on the next line.
        return;
    }
    if line.contains("MsgDesc") {
        last.code.push((format!("eu:{}", message(line)), None));
        return;
    }
    // (+f0.0) op.mod(8) ..
    let op = words.iter().find(|w| !w.starts_with('(')).unwrap_or(&"?");
    let repeats = op.starts_with("while");
    let target = words.iter().skip_while(|w| **w != "JIP:").nth(1).filter(|_| repeats);
    let name = op.split(['(', '.']).next().unwrap_or(op);
    let integers = name == "mul"
        && words.iter().skip_while(|w| *w != op).nth(1).is_some_and(|to| to.ends_with('D'));
    let name = if integers { "integer multiply" } else { name };
    last.code.push((format!("eu:{name}"), target.map(|t| trim(t).to_owned())));
    if repeats {
        // A loop ends here even if no START follows.
        let name = format!("behind {}", last.name);
        all.push(Block::new(name));
    }
}

fn blocks(text: &str) -> Vec<Block> {
    let numbers = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_ascii_digit())
            .filter(|w| !w.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let mut all = vec![Block::new("start")];
    for full in text.lines() {
        let line = full.split("//").next().unwrap_or("").trim();
        // nvdisasm puts addresses into comments.
        let line = if line.starts_with("/*") {
            line.split_once("*/").map_or("", |(_, rest)| rest).trim()
        } else {
            line
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        let last = all.len() - 1;
        if words.is_empty() {
        } else if words[0].starts_with("block") && line.ends_with('{') && words.len() > 1 {
            all.push(Block::new(words[1]));
        } else if let Some(rest) = line.strip_prefix("} -> [") {
            all[last].successors = Some(numbers(rest));
        } else if words[0] == "START" && words.len() > 1 {
            all.push(Block::new(words[1]));
        } else if words[0] == "END" && words.len() > 1 {
            let next = line
                .split("->")
                .skip(1)
                .map(|w| trim(w.split_whitespace().next().unwrap_or("")).to_owned());
            all[last].successors = Some(next.collect());
        } else if (words.len() == 1 || words[0].starts_with(".L_")) && line.ends_with(':') {
            all.push(Block::new(line.trim_end_matches(':')));
        } else if words[0].starts_with("send") || full.contains("{ align") {
            intel(&mut all, full, &words);
        } else if line.contains(" = ") || full.contains("delay=") {
            // NAK: [@p] [destinations =] op ..
            let after = line.split_once(" = ").map_or(line, |(_, rest)| rest);
            let op = after.split_whitespace().find(|w| !w.starts_with('@')).unwrap_or("?");
            all[last].code.push((op.to_owned(), None));
        } else {
            for part in line.split(';').next().unwrap_or("").split(" :: ") {
                let predicated = part.trim().starts_with('@');
                let words: Vec<&str> =
                    part.split_whitespace().filter(|w| !w.starts_with('@')).collect();
                let Some(op) =
                    words.first().filter(|w| w.starts_with(|c: char| c.is_ascii_alphabetic()))
                else {
                    continue;
                };
                let branch =
                    ["s_branch", "s_cbranch", "BRA", "CALL"].iter().any(|b| op.starts_with(b));
                let target = if branch { words.last().map(|w| trim(w).to_owned()) } else { None };
                let op = if predicated && matches!(*op, "BRA" | "EXIT") {
                    format!("{op}.p")
                } else {
                    (*op).to_owned()
                };
                all[last].code.push((op, target));
            }
        }
    }
    all
}

/// Returns the successors of each block.
fn graph(blocks: &[Block]) -> Vec<Vec<usize>> {
    let place: BTreeMap<&str, usize> =
        blocks.iter().enumerate().map(|(at, b)| (b.name.as_str(), at)).collect();
    let successors = |(at, block): (usize, &Block)| {
        let targets = block
            .code
            .iter()
            .filter_map(|(_, t)| t.as_ref())
            .chain(block.successors.iter().flatten());
        let mut next: Vec<usize> = targets.filter_map(|t| place.get(t.as_str()).copied()).collect();
        let ends = block
            .code
            .last()
            .is_some_and(|(op, _)| matches!(op.as_str(), "s_branch" | "s_endpgm" | "BRA" | "EXIT"));
        if block.successors.is_none() && !ends && at + 1 < blocks.len() {
            next.push(at + 1);
        }
        next.dedup();
        next
    };
    blocks.iter().enumerate().map(successors).collect()
}

/// Returns the dominators of each block.
fn dominators(before: &[Vec<usize>]) -> Vec<BTreeSet<usize>> {
    let all: BTreeSet<usize> = (0..before.len()).collect();
    let mut dominators = vec![all; before.len()];
    dominators[0] = [0].into();
    let mut changed = true;
    while changed {
        changed = false;
        for at in 1..before.len() {
            let common =
                before[at].iter().map(|from| dominators[*from].clone()).reduce(|a, b| &a & &b);
            let mut new = common.unwrap_or_default();
            new.insert(at);
            if new != dominators[at] {
                (dominators[at], changed) = (new, true);
            }
        }
    }
    dominators
}

/// Returns the natural loops: header and blocks.
fn natural(graph: &[Vec<usize>]) -> BTreeMap<usize, BTreeSet<usize>> {
    let mut before = vec![Vec::new(); graph.len()];
    for (from, next) in graph.iter().enumerate() {
        next.iter().for_each(|to| before[*to].push(from));
    }
    let dominators = dominators(&before);
    let mut loops: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for from in 0..graph.len() {
        for header in graph[from].iter().filter(|h| dominators[from].contains(h)) {
            let body = loops.entry(*header).or_insert_with(|| [*header].into());
            let mut open = vec![from];
            while let Some(at) = open.pop() {
                if body.insert(at) {
                    open.extend(&before[at]);
                }
            }
        }
    }
    loops
}

impl Code {
    /// Reads a disassembly.
    pub fn read(text: &str) -> Self {
        let blocks = blocks(text);
        let natural = natural(&graph(&blocks));
        let mut loops = Vec::new();
        for (header, body) in &natural {
            let inside: Vec<_> =
                natural.iter().filter(|(h, b)| *h != header && b.is_subset(body)).collect();
            let own = body.iter().filter(|at| !inside.iter().any(|(_, b)| b.contains(at)));
            let mut counts = Counts::new();
            own.flat_map(|at| &blocks[*at].code)
                .for_each(|(op, _)| *counts.entry(kind(op)).or_default() += 1);
            // A branch to itself pads the end of a program.
            if counts.values().sum::<usize>() <= 1 {
                continue;
            }
            let around = natural
                .iter()
                .filter(|(h, b)| *h != header && body.is_subset(b))
                .min_by_key(|(_, b)| b.len());
            let (name, parent) = (blocks[*header].name.clone(), around.map(|(h, _)| *h));
            loops.push(Loop { name, header: *header, parent, inner: inside.len(), counts });
        }
        let mut code =
            Self { loops, counts: Counts::new(), loads: BTreeMap::new(), stores: BTreeMap::new() };
        for (op, _) in blocks.iter().flat_map(|block| &block.code) {
            let kind = kind(op);
            *code.counts.entry(kind).or_default() += 1;
            match kind {
                Kind::Load => *code.loads.entry(width(op)).or_default() += 1,
                Kind::Store => *code.stores.entry(width(op)).or_default() += 1,
                _ => {}
            }
        }
        code
    }

    /// Returns the counts of the whole shader, loads and stores by bytes, and the loops, each with
    /// the index of the enclosing one, as JSON.
    pub fn json(&self) -> Value {
        let counts = |counts: &Counts| -> Map<String, Value> {
            counts.iter().map(|(k, n)| (k.name().to_owned(), json!(n))).collect()
        };
        let loops = self.loops.iter().map(|one| {
            let parent = self.loops.iter().position(|other| Some(other.header) == one.parent);
            let alu: usize =
                one.counts.iter().filter(|(kind, _)| kind.is_alu()).map(|(_, n)| n).sum();
            json!({
                "name": one.name,
                "around": parent,
                "inside": one.inner,
                "alu": alu,
                "counts": counts(&one.counts),
            })
        });
        json!({
            "counts": counts(&self.counts),
            "loads": self.loads,
            "stores": self.stores,
            "loops": loops.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the multiply-adds and all vector-unit instructions in the only loop of `text`.
    fn only(text: &str) -> (usize, usize) {
        let code = Code::read(text);
        assert_eq!(code.loops.len(), 1, "{code:#?}");
        let alu =
            code.loops[0].counts.iter().filter(|(kind, _)| kind.is_alu()).map(|(_, n)| n).sum();
        (code.loops[0].counts.get(&Kind::MultiplyAdd).copied().unwrap_or(0), alu)
    }

    #[test]
    fn a_loop_is_found_in_every_vendors_disassembly() {
        let radv = "BB0:\n\ts_load_dwordx4 s[0:3], s[2:3], 0x70 ; f4\nBB1:\n\
            \tv_fma_f32 v0, v1, v2, v0 ; d5\n\tv_add_nc_u32 v3, 1, v3 ; 4a\n\
            \ts_cbranch_scc1 BB1 ; bf\nBB2:\n\
            \tbuffer_store_dwordx4 v[0:3], v0, s[0:3], 0 offen ; e0\n\ts_endpgm ; bf\n";
        assert_eq!(only(radv), (1, 2));
        let sass = ".text.main:\n        /*0000*/                   LDG.E.128 R4, [R2.64] ;\n\
                    .L_x_1:\n        /*0010*/                   FFMA R0, R1, R2, R0 ;\n\
                    /*0020*/              @P0 BRA `(.L_x_1) ;\n\
                    /*0030*/                   STG.E [R2.64], R0 ;\n\
                    /*0040*/                   EXIT ;\n";
        assert_eq!(only(sass), (1, 1));
        let nak = "block 0 L1 [] -> {\n\
                   r1 = ld.global.a64.strong.gpu.b128 [r2..4+rZ] // delay=1\n\
                   } -> [1]\nblock 1 L2 [0, 1] -> {\n  r0 = ffma.ftz r1 r2 r0 // delay=1\n\
                   r3 = iadd3 r3 1 rZ // delay=1\n @p0 bra pT L2 // delay=1\n} -> [1, 2]\n\
                   block 2 L3 [1] -> {\n  exit // delay=1\n} -> []\n";
        assert_eq!(only(nak), (1, 2));
        let intel = "LABEL5:\n\
                     mad(16) g1<1>F g2<8,8,1>F g1<8,8,1>F g3.0<0,1,0>F { align1 1H };\n\
                     while(16) JIP:  LABEL5 { align1 1H };\n\
                     add(16) g8<1>F g1<1,1,0>F g1<1,1,0>F { align1 1H };\n";
        assert_eq!(only(intel), (1, 1));
        for (text, loads, stores) in
            [(radv, None, Some(16)), (sass, Some(16), Some(4)), (nak, Some(16), None)]
        {
            let code = Code::read(text);
            assert_eq!(
                (code.loads.keys().next().copied(), code.stores.keys().next().copied()),
                (loads, stores)
            );
        }
    }

    #[test]
    fn instructions_of_an_inner_loop_are_not_counted_in_the_outer_one() {
        let text = "BB0:\n\tv_mov_b32 v0, 0 ; 7e\nBB1:\n\tv_add_f32 v1, v1, v2 ; 06\nBB2:\n\
            \tv_fma_f32 v0, v1, v2, v0 ; d5\n\ts_cbranch_scc1 BB2 ; bf\nBB3:\n\
            \tv_mul_lo_u32 v3, v3, v4 ; d5\n\ts_cbranch_scc1 BB1 ; bf\nBB4:\n\ts_endpgm ; bf\n";
        let code = Code::read(text);
        let of = |name: &str| code.loops.iter().find(|l| l.name == name).expect("a loop");
        assert_eq!(of("BB2").parent, Some(of("BB1").header));
        assert_eq!(of("BB1").counts.get(&Kind::MultiplyAdd), None);
        assert_eq!(of("BB1").counts.get(&Kind::IntegerMultiply), Some(&1));
    }
}
