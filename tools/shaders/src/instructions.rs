//! Classification of machine instructions, by vendor.

/// The kind of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A multiply-add of floats.
    MultiplyAdd,
    /// An integer multiplication that takes more than one issue slot.
    IntegerMultiply,
    Transcendental,
    Move,
    /// Any other instruction of the vector units.
    OtherAlu,
    SharedLoad,
    SharedStore,
    Load,
    Store,
    /// A load or store of spilled registers.
    Spill,
    /// A load of constants, or by the scalar unit.
    ScalarLoad,
    Scalar,
    Barrier,
    Branch,
    Wait,
}

impl Kind {
    /// Returns its name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::MultiplyAdd => "multiply_adds",
            Self::IntegerMultiply => "integer_multiplies",
            Self::Transcendental => "transcendentals",
            Self::Move => "moves",
            Self::OtherAlu => "other_alu",
            Self::SharedLoad => "shared_loads",
            Self::SharedStore => "shared_stores",
            Self::Load => "loads",
            Self::Store => "stores",
            Self::Spill => "spills",
            Self::ScalarLoad => "scalar_loads",
            Self::Scalar => "scalar",
            Self::Barrier => "barriers",
            Self::Branch => "branches",
            Self::Wait => "waits",
        }
    }

    /// Whether it takes an issue slot of the vector units.
    pub fn is_alu(self) -> bool {
        matches!(
            self,
            Self::MultiplyAdd
                | Self::IntegerMultiply
                | Self::Transcendental
                | Self::Move
                | Self::OtherAlu
        )
    }
}

fn starts(op: &str, all: &[&str]) -> bool {
    all.iter().any(|prefix| op.starts_with(prefix))
}

/// Classifies an instruction of GCN or RDNA.
fn amd(op: &str) -> Kind {
    match op {
        _ if starts(
            op,
            &["v_fma", "v_mac", "v_mad_f32", "v_pk_fma", "v_dual_fma", "v_dot", "v_wmma", "v_mfma"],
        ) =>
        {
            Kind::MultiplyAdd
        }
        _ if starts(op, &["v_exp", "v_log", "v_rcp", "v_rsq", "v_sqrt", "v_sin", "v_cos"]) => {
            Kind::Transcendental
        }
        _ if starts(
            op,
            &["v_mul_lo_u32", "v_mul_hi", "v_mad_u64", "v_mad_i64", "v_mad_co_u64"],
        ) =>
        {
            Kind::IntegerMultiply
        }
        _ if starts(op, &["v_mov", "v_dual_mov"]) => Kind::Move,
        _ if starts(op, &["v_"]) => Kind::OtherAlu,
        _ if starts(op, &["ds_read", "ds_load"]) => Kind::SharedLoad,
        _ if starts(op, &["ds_write", "ds_store"]) => Kind::SharedStore,
        _ if starts(op, &["ds_"]) => Kind::OtherAlu,
        _ if starts(op, &["scratch_"]) => Kind::Spill,
        _ if starts(op, &["buffer_load", "global_load", "flat_load"]) => Kind::Load,
        _ if starts(op, &["buffer_store", "global_store", "flat_store"]) => Kind::Store,
        _ if starts(op, &["s_load", "s_buffer_load"]) => Kind::ScalarLoad,
        _ if starts(op, &["s_barrier"]) => Kind::Barrier,
        _ if starts(op, &["s_branch", "s_cbranch", "s_endpgm"]) => Kind::Branch,
        _ if starts(
            op,
            &[
                "s_waitcnt",
                "s_wait",
                "s_nop",
                "s_delay",
                "s_clause",
                "s_inst",
                "s_code",
                "s_sendmsg",
            ],
        ) =>
        {
            Kind::Wait
        }
        _ => Kind::Scalar,
    }
}

/// Classifies an NVIDIA instruction, as nvdisasm or NAK writes it.
fn nvidia(op: &str) -> Kind {
    let op = &op.to_lowercase();
    match op.as_str() {
        _ if starts(op, &["ffma", "hfma2", "hmma", "imma"]) => Kind::MultiplyAdd,
        _ if starts(op, &["mufu"]) => Kind::Transcendental,
        _ if starts(op, &["imad64", "imad.wide", "imad.hi"]) => Kind::IntegerMultiply,
        _ if starts(op, &["imad.mov", "mov", "umov", "cs2r", "uimad.mov"]) => Kind::Move,
        _ if starts(op, &["ld.shared", "lds"]) => Kind::SharedLoad,
        _ if starts(op, &["st.shared", "sts"]) => Kind::SharedStore,
        _ if starts(op, &["ldl", "stl", "ld.local", "st.local"]) => Kind::Spill,
        _ if starts(op, &["ldc", "uldc"]) => Kind::ScalarLoad,
        _ if starts(op, &["ld"]) => Kind::Load,
        _ if starts(op, &["st"]) => Kind::Store,
        _ if starts(op, &["bar", "membar"]) => Kind::Barrier,
        _ if starts(
            op,
            &[
                "bra", "exit", "bsync", "bssy", "bclear", "break", "warpsync", "brx", "jmp",
                "call", "ret",
            ],
        ) =>
        {
            Kind::Branch
        }
        _ if starts(op, &["nop", "errbar", "depbar"]) => Kind::Wait,
        _ => Kind::OtherAlu,
    }
}

/// Classifies an Intel instruction; messages are named after what they do.
fn intel(op: &str) -> Kind {
    match op {
        _ if starts(op, &["mad", "dpas"]) => Kind::MultiplyAdd,
        _ if starts(op, &["integer multiply", "mach"]) => Kind::IntegerMultiply,
        _ if starts(op, &["math"]) => Kind::Transcendental,
        _ if starts(op, &["slm load"]) => Kind::SharedLoad,
        _ if starts(op, &["slm store"]) => Kind::SharedStore,
        _ if starts(op, &["spill"]) => Kind::Spill,
        _ if starts(op, &["uniform load"]) => Kind::ScalarLoad,
        _ if starts(op, &["ugm load"]) => Kind::Load,
        _ if starts(op, &["ugm store"]) => Kind::Store,
        _ if starts(op, &["send", "fence", "barrier"]) => Kind::Barrier,
        _ if starts(op, &["mov"]) => Kind::Move,
        _ if starts(op, &["sync", "nop"]) => Kind::Wait,
        _ if starts(
            op,
            &["if", "else", "endif", "while", "break", "cont", "jmpi", "halt", "brd"],
        ) =>
        {
            Kind::Branch
        }
        _ => Kind::OtherAlu,
    }
}

/// Returns the kind of `op`; Intel's start with "eu:".
pub fn kind(op: &str) -> Kind {
    let of_amd =
        starts(op, &["v_", "s_", "ds_", "buffer_", "global_", "flat_", "scratch_", "image_"]);
    match op.strip_prefix("eu:") {
        Some(op) => intel(op),
        None if of_amd => amd(op),
        None => nvidia(op),
    }
}

/// Returns the bytes that one invocation loads or stores with `op`.
pub fn width(op: &str) -> u32 {
    let op = op.to_lowercase();
    let has = |all: &[&str]| all.iter().any(|part| op.contains(part));
    match () {
        () if has(&["dwordx4", "b128", ".128", "d32 v4"]) => 16,
        () if has(&["dwordx3", "b96", "d32 v3"]) => 12,
        () if has(&["dwordx2", "b64", ".64", "d32 v2"]) => 8,
        () if has(&["short", "b16", ".u16", ".s16", "d16"]) => 2,
        () if has(&["byte", "b8", ".u8", ".s8", "d8"]) => 1,
        () => 4,
    }
}
