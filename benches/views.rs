//! Times the view pipeline: pairs of views under the full recipe (crop, flip, RandAugment, noise), loader included.
//!
//! cargo bench --bench views

use serde_json::json;
use soda::config::{BUILT_IN, Config};
use soda::data::{bundled, loader::measure_pairs};

fn main() {
    let (name, text) = BUILT_IN[2];
    let config = Config::parse(text, name, &[]).expect("a valid recipe");
    let data = bundled().expect("the bundled subset");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let pairs = measure_pairs(data.train, &config.data, config.train.batch_size, 5.0).expect("batches");
    println!("{}", json!({ "op": "views", "recipe": name, "threads": threads, "pairs_per_s": pairs }));
}
