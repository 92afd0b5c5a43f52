//! The page and its data, in one file.

use super::blob::Blob;
use crate::config::{Config, Guidance};
use crate::diffusion::Schedule;
use crate::edit::directions::Direction;
use crate::edit::linear_decoder::LinearDecoder;
use crate::edit::mixture::Mixture;
use crate::error::{Error, Result};
use crate::files;
use crate::kernels::plan::{Extra, Plan, Recorder};
use crate::model::weights::{Tensors, Trained};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

/// The version of the page's format, separate from that of the plan. The page's script refuses data
/// of another version.
pub const VERSION: u32 = 1;

/// Training images for the search of nearest neighbours.
#[derive(Clone, Debug, Default)]
pub struct Gallery {
    /// The name of the data set.
    pub source: String,
    /// Pixels per side.
    pub side: usize,
    /// Pixels, `[N, side, side, 3]`.
    pub pixels: Vec<u8>,
    /// The z of the images, `[N, Z]`.
    pub z: Vec<f32>,
    /// Class labels, `[N]`.
    pub labels: Vec<u16>,
    /// The names of the classes; empty where the images have none.
    pub classes: Vec<String>,
}

/// The contents of a page.
pub struct Contents<'a> {
    /// The recipe that the weights were trained with, sampling settings included.
    pub config: &'a Config,
    /// The name of the weights, and their checksum.
    pub weights: (&'a str, &'a str),
    /// The training that produced them, where known.
    pub trained: Option<Trained>,
    /// The networks' tensors.
    pub tensors: &'a Tensors,
    /// The networks' passes.
    pub recorder: &'a Recorder,
    /// The linear decoder that sampling starts from.
    pub linear: Option<&'a LinearDecoder>,
    /// The prior from which z is sampled.
    pub prior: Option<&'a Mixture>,
    /// The directions of z: principal ones, then those of classes; and the number of principal
    /// ones.
    pub directions: (&'a [Direction], usize),
    /// The images for nearest neighbours.
    pub gallery: Option<&'a Gallery>,
    /// The benchmark's cases.
    pub bench: Option<&'a Value>,
}

/// Returns the tensors that `recorder`'s plan reads, taken or joined from those of the networks.
///
/// # Errors
/// If one is missing.
pub fn operands(recorder: &Recorder, tensors: &Tensors) -> Result<Tensors> {
    let own: HashMap<&str, (&Vec<usize>, &Vec<f32>)> =
        tensors.iter().map(|(name, shape, values)| (name.as_str(), (shape, values))).collect();
    let find = |name: &str| {
        own.get(name).ok_or_else(|| {
            Error::failed(format!("the plan reads {name}, which is missing from the weights"))
        })
    };
    let mut operands = Tensors::new();
    for name in names(&recorder.plan) {
        let (shape, values) = match recorder.extra.get(&name) {
            Some(Extra::Numbers(numbers)) => (vec![numbers.len()], numbers.clone()),
            Some(Extra::Joined(parts)) => {
                let mut whole = Vec::new();
                for part in parts {
                    whole.extend_from_slice(find(part)?.1);
                }
                (vec![whole.len()], whole)
            }
            None => find(&name).map(|(shape, values)| ((*shape).clone(), (*values).clone()))?,
        };
        operands.push((name, shape, values));
    }
    Ok(operands)
}

/// Returns the names of the tensors that `plan` reads.
fn names(plan: &Plan) -> BTreeSet<String> {
    let operands = plan
        .passes
        .values()
        .flat_map(|pass| &pass.dispatches)
        .flat_map(|dispatch| &dispatch.operands);
    operands.filter_map(|operand| operand.tensor().map(str::to_owned)).collect()
}

impl Contents<'_> {
    fn tensors(&self) -> Result<Blob> {
        let mut blob = Blob::default();
        for (name, shape, values) in operands(self.recorder, self.tensors)? {
            blob.floats(&name, &shape, &values);
        }
        let schedule = Schedule::new(&self.config.diffusion);
        blob.doubles(
            "alpha_bar",
            &(0..=schedule.steps()).map(|t| schedule.alpha_bar(t)).collect::<Vec<_>>(),
        );
        for (name, shape, values) in self.linear.map(LinearDecoder::to_tensors).unwrap_or_default()
        {
            blob.floats(&name, &shape, &values);
        }
        if let Some(Mixture { dim, weights, means, factors }) = self.prior {
            blob.floats("prior.weights", &[weights.len()], weights);
            blob.halves("prior.means", &[weights.len(), *dim], means);
            blob.halves("prior.factors", &[weights.len(), *dim, *dim], factors);
        }
        let z_dim = self.config.model.z_dim;
        let (directions, _) = self.directions;
        let units: Vec<f32> =
            directions.iter().flat_map(|along| along.unit.iter().map(|v| *v as f32)).collect();
        blob.floats("directions.unit", &[directions.len(), z_dim], &units);
        if let Some(Gallery { side, pixels, z, labels, .. }) = self.gallery {
            blob.bytes("gallery.pixels", &[labels.len(), *side, *side, 3], pixels);
            blob.halves("gallery.z", &[labels.len(), z_dim], z);
        }
        Ok(blob)
    }

    /// Returns the description of networks, schedule and sampling.
    fn model(&self) -> Value {
        let (model, sample) = (&self.config.model, &self.config.sample);
        let schedule = Schedule::new(&self.config.diffusion);
        let (sections, mixable) = (model.sections(), model.mixable());
        let side = model.sides.target;
        let last = model.unet.multipliers.len() - 1;
        let sides: Vec<usize> = (0..mixable.len()).map(|stage| side >> stage.min(last)).collect();
        let guidance = match &sample.guidance {
            Guidance::Whole(w) => json!(w),
            Guidance::Sections(w) => json!(w),
        };
        let start = self.linear.and_then(|_| sample.start_level(schedule.steps()));
        json!({
            "name": self.weights.0, "sha256": self.weights.1,
            "step": self.trained.as_ref().map(|t| t.step), "images": self.trained.as_ref().map(|t| t.images),
            "z_dim": model.z_dim, "side": self.config.data.side, "source_side": model.sides.source, "target_side": side,
            "mean": self.config.data.mean, "std": self.config.data.std, "normalise_z": model.encoder.normalise_z,
            "base": model.unet.base, "time_scale": model.unet.time_scale,
            "sections": sections.iter().map(|s| [s.start, s.end]).collect::<Vec<_>>(),
            "z_width": mixable.last().map_or(0, |s| s.end), "stages": mixable.len(), "stage_sides": sides,
            "prediction": self.config.diffusion.prediction, "begins_at_pure_noise": schedule.begins_at_pure_noise(),
            "sample": {
                "sampler": sample.sampler, "steps": sample.steps, "eta": sample.eta, "guidance": guidance, "clip_x0": sample.clip_x0,
                "start_level": start,
            },
        })
    }

    /// Returns everything except the tensors' data.
    fn data(&self, blob: &Blob) -> Value {
        let (directions, principal) = self.directions;
        let direction = |(i, along): (usize, &Direction)| {
            let kind = if i < principal { "component" } else { "class" };
            json!({ "name": along.name, "kind": kind, "deviation": along.deviation, "share": along.share })
        };
        let directions: Vec<Value> = directions.iter().enumerate().map(direction).collect();
        let gallery = self.gallery.map(|gallery| {
            let Gallery { source, side, labels, classes, .. } = gallery;
            json!({ "count": labels.len(), "side": side, "source": source, "split": "train", "labels": labels, "classes": classes })
        });
        json!({
            "format": "soda-page", "version": VERSION, "program": env!("CARGO_PKG_VERSION"), "commit": crate::machine::commit(),
            "blob": { "bytes": blob.bytes.len(), "sha256": files::sha256(&blob.bytes) },
            "tensors": blob.tensors,
            "model": self.model(),
            "linear": self.linear.map(|linear| json!({ "side": linear.side() })),
            "prior": self.prior.map(|prior| json!({ "components": prior.components() })),
            "directions": directions,
            "gallery": gallery,
            "plan": self.recorder.plan,
            "bench": self.bench,
        })
    }
}

/// Escapes `text` for a script element, so that nothing in it closes the element.
fn inside_script(text: &str) -> String {
    text.replace("</", "<\\/").replace("<!--", "<\\u0021--")
}

/// Returns the page of `contents`, a self-contained HTML file that loads nothing else.
///
/// # Errors
/// If a tensor is missing.
pub fn html(contents: &Contents) -> Result<String> {
    let blob = contents.tensors()?;
    let data = serde_json::to_string(&contents.data(&blob))
        .map_err(|e| Error::failed(format!("cannot encode the page: {e}")))?;
    let mut page = include_str!("../../assets/web/page.html").to_owned();
    let filled = [
        ("<!--SODA:json-->", inside_script(&data)),
        ("<!--SODA:blob-->", STANDARD.encode(&blob.bytes)),
    ];
    let texts = TEXTS.map(|(name, text)| (format!("/*SODA:{name}*/"), text));
    let texts = texts.iter().map(|(place, text)| (place.as_str(), *text));
    for (place, part) in texts.chain(filled.iter().map(|(place, part)| (*place, part.as_str()))) {
        let (before, after) = page
            .split_once(place)
            .ok_or_else(|| Error::failed(format!("the page has no placeholder {place}")))?;
        page = [before, part, after].concat();
    }
    Ok(page)
}

/// The page's style sheet and scripts, by name.
const TEXTS: [(&str, &str); 8] = [
    ("page.css", include_str!("../../assets/web/page.css")),
    ("tensors.js", include_str!("../../assets/web/tensors.js")),
    ("player.js", include_str!("../../assets/web/player.js")),
    ("sampler.js", include_str!("../../assets/web/sampler.js")),
    ("picture.js", include_str!("../../assets/web/picture.js")),
    ("networks.js", include_str!("../../assets/web/networks.js")),
    ("bench.js", include_str!("../../assets/web/bench.js")),
    ("page.js", include_str!("../../assets/web/page.js")),
];
