//! Embeds a folder of images: writes z of each image, with its name, to a Parquet file.
//!
//! ```text
//! cargo run --release --example embed_folder -- FOLDER z.parquet
//! ```
//!
//! Without a folder it embeds the images that come with the library. The file may also end in .npz.

use soda::data::{self, Options};
use soda::eval::table::{Known, Table};
use soda::model::shipped;
use soda::prelude::*;
use std::path::PathBuf;

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (folder, out) = (args.next(), args.next().unwrap_or_else(|| "z.parquet".into()));
    if !Table::holds_names(&out)? {
        let out = out.display();
        return Err(Error::usage(format!("{out} can't hold names; end it in .parquet or .npz")));
    }

    // The networks: weights that come with the library, on the best device of this machine.
    let weights = shipped::open()?;
    let device = select("auto")?;
    let model = weights.model(&device.device)?;

    // The images, resampled to the size that the networks take. If the folder has no test set, one
    // is split off; both parts are embedded.
    let side = weights.config.data.side;
    let data = match folder {
        Some(folder) => data::open(Some(&folder), side, &Options::default())?,
        None => bundled()?.at(side)?,
    };

    let known = Known { split: None, classes: data.classes.clone() };
    let dim = weights.config.model.z_dim;
    let mut table = Table::create(&out, "z", dim, known, None, Default::default())?;
    for images in [&data.train, &data.test] {
        let indices: Vec<usize> = (0..images.len()).collect();
        let z = encode(&model, images, &indices, &weights.config.data, false, &device.device)?;
        let names: Vec<String> = indices.iter().map(|&i| images.name(i).into_owned()).collect();
        // Images without classes have no labels.
        let labels = if data.classes.is_empty() { &[][..] } else { &z.labels[..] };
        table.append(&z.values, &names, labels)?;
    }
    let rows = table.rows();
    table.finish()?;
    println!("{}: z of {rows} images, {dim} values each", out.display());
    Ok(())
}
