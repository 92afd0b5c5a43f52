use super::*;
use crate::config::BUILT_IN;
use crate::ranks::threads;

#[test]
fn device_reads_and_writes_are_hidden_behind_the_exchange() {
    let (_, text) =
        BUILT_IN.iter().find(|(name, _)| name.ends_with("cifar10.toml")).expect("a recipe");
    let sets =
        ["model.encoder.base=32", "model.unet.base=32", "train.batch_size=4"].map(str::to_owned);
    let config = Config::parse(text, "cifar10.toml", &sets).expect("a recipe");
    // 22 MB, half of which go to the other rank, and back again: 550 ms. Reading and writing take
    // a tenth of that on a quiet machine.
    let exchanged = |wire: Wire| {
        let spent = threads::run_at(Some(40e6), 2, |ranks| {
            let among = Among { ranks, shares: None, wire, resume: String::new() };
            let device = Device::flex();
            let mut exchange = Exchange::new(&among, &config, &device).expect("begins");
            let mut state = State::new(&config, "", &device);
            (0..5)
                .map(|_| {
                    exchange.rehearse(&mut state).expect("exchanges");
                    exchange.spent()
                })
                .min_by(|a, b| a.over_slowest().total_cmp(&b.over_slowest()))
                .expect("five")
        });
        spent[0]
    };
    let [whole, half] = [Wire::F32, Wire::F16].map(exchanged);
    assert!(whole.over_slowest() < 1.15 && whole.exchange > 0.5, "{whole:?}");
    assert!(
        whole.read + whole.upload + whole.exchange > whole.whole,
        "{whole:?}: nothing was hidden"
    );
    // Half the bytes.
    assert!(half.exchange < 0.75 * whole.exchange, "{half:?}");
}

#[test]
fn a_rank_whose_weights_differ_is_named() {
    let (_, text) =
        BUILT_IN.iter().find(|(name, _)| name.ends_with("quick.toml")).expect("a recipe");
    let config = Config::parse(text, "quick.toml", &[]).expect("a recipe");
    let compared = |wrong: Option<usize>| {
        threads::run(3, |ranks| {
            let rank = ranks.rank();
            let among = Among { ranks, shares: None, wire: Wire::F32, resume: String::new() };
            let device = Device::flex();
            let exchange = Exchange::new(&among, &config, &device).expect("begins");
            let mut state = State::new(&config, "", &device);
            if wrong == Some(rank) {
                let mut first = true;
                let map = |_: &str, old: Tensor<1>| {
                    if std::mem::take(&mut first) { old * 1.001 } else { old }
                };
                state.model = parameters::map(state.model, map);
            }
            exchange.compare(&state).map_err(|e| e.to_string())
        })
    };
    assert!(compared(None).iter().all(|told| told.is_ok()));
    // Only rank 0 reports it. If rank 0 itself is wrong, it names the first of the others.
    for (wrong, named) in [(2, "rank 2"), (1, "rank 1"), (0, "rank 1")] {
        let told = compared(Some(wrong));
        assert!(told[0].as_ref().is_err_and(|e| e.contains(named)), "{told:?}");
        assert!(told[1..].iter().all(|told| told.is_ok()), "{told:?}");
    }
}
