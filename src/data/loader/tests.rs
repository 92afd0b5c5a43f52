use super::*;
use crate::data::views::tests::recipe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const IMAGE: usize = 3 * 32 * 32;

fn images(n: usize) -> Arc<Images> {
    Arc::new(Images::new(
        32,
        (0..n * IMAGE).map(|i| rng::mix(i as u64) as u8).collect(),
        (0..n).map(|i| (i % 10) as u16).collect(),
    ))
}

fn loader(threads: usize, seed: u64, first_step: u64) -> Loader {
    Loader::new(images(50), DataConfig { threads, ..recipe() }, 8, seed, first_step).unwrap()
}

fn take(loader: &mut Loader, n: usize) -> Vec<Batch> {
    (0..n).map(|_| loader.next().unwrap()).collect()
}

#[test]
fn batches_are_the_same_for_any_number_of_threads_and_any_resumed_step() {
    // 6 batches an epoch: 20 batches reach into the fourth epoch.
    let whole = take(&mut loader(1, 7, 0), 20);
    assert_eq!(whole.iter().map(|b| b.step).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    assert_eq!(whole, take(&mut loader(5, 7, 0), 20));
    for first in [1, 6, 13] {
        assert_eq!(whole[first..], take(&mut loader(2, 7, first as u64), 20 - first));
    }
    let other = take(&mut loader(2, 8, 0), 1);
    assert_ne!(whole[0].indices, other[0].indices);
}

#[test]
fn an_epoch_shows_every_image_once_except_for_the_dropped_remainder() {
    let batches = take(&mut loader(3, 1, 0), 12);
    let orders = [&batches[..6], &batches[6..]]
        .map(|b| b.iter().flat_map(|b| b.indices.clone()).collect::<Vec<_>>());
    for order in &orders {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!((order.len(), sorted.len()), (48, 48));
    }
    assert_ne!(orders[0], orders[1]);
    let batch = &batches[0];
    assert_eq!((batch.source.len(), batch.target.len()), (8 * IMAGE, 8 * IMAGE));
    // An image's position in a batch is its position in `indices`.
    let (mut source, mut target) = (vec![0.0; IMAGE], vec![0.0; IMAGE]);
    let i = batch.indices[3];
    make_pair(&images(50).image(i).unwrap(), &recipe(), 1, 0, i, &mut source, &mut target);
    assert_eq!(
        (&batch.source[3 * IMAGE..4 * IMAGE], &batch.target[3 * IMAGE..4 * IMAGE]),
        (&source[..], &target[..])
    );
}

#[test]
fn refuses_a_batch_larger_than_the_data_and_an_empty_one() {
    for size in [0, 51] {
        let error = Loader::new(images(50), recipe(), size, 1, 0).err().unwrap();
        assert!(
            error
                .to_string()
                .starts_with(&format!("train.batch_size = {size}: the data holds 50 images")),
            "{error}"
        );
        assert_eq!(error.exit_code(), 2);
    }
    assert_eq!(
        take(&mut Loader::new(images(50), recipe(), 50, 1, 0).unwrap(), 3)[2].indices.len(),
        50
    );
}

fn empty(step: u64) -> Batch {
    Batch { step, indices: vec![], source: vec![], target: vec![], geometry: vec![] }
}

#[test]
fn a_panic_in_a_thread_reaches_the_consumer_as_an_error() {
    let make = |step: u64| if step == 5 { panic!("no image {step}") } else { Ok(empty(step)) };
    let mut loader = Loader::start(3, 0, make).unwrap();
    let error =
        (0..10).find_map(|_| loader.next().err()).expect("step 5 cannot be made").to_string();
    assert!(error.contains("step 5: no image 5"), "{error}");
    assert_eq!(loader.next().unwrap_err().to_string(), error);
}

#[test]
fn makes_only_a_few_batches_ahead_and_stops_when_dropped() {
    let made = Arc::new(AtomicU64::new(0));
    let counter = made.clone();
    let mut loader = Loader::start(2, 100, move |step| {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(empty(step))
    })
    .unwrap();
    assert_eq!(loader.next().unwrap().step, 100);
    let (all, clock) = (1 + loader.shared.ahead, Instant::now());
    while made.load(Ordering::SeqCst) < all && clock.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(made.load(Ordering::SeqCst), all);
    // Threads that wait for room, and one that is busy: neither keeps the drop from returning.
    drop(loader);
    assert_eq!(Arc::strong_count(&made), 1, "every thread has dropped its closure");
}

#[test]
fn measures_a_positive_number_of_pairs() {
    assert!(measure_pairs(images(50), &recipe(), 10, 0.05).unwrap() > 0.0);
}
