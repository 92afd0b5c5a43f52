use burn::tensor::Device;
use soda::config::*;
use soda::diffusion::Schedule;
use soda::train::{
    checkpoint::State,
    step::{Pair, step},
};
use std::time::Instant;
fn main() {
    env_logger::init();
    let a: Vec<String> = std::env::args().collect();
    let (dev, ebase, ubase, batch, n) = (
        &a[1],
        a[2].parse::<usize>().unwrap(),
        a[3].parse::<usize>().unwrap(),
        a[4].parse::<usize>().unwrap(),
        a[5].parse::<u64>().unwrap(),
    );
    let mut c = Config::load(std::path::Path::new("configs/cifar10.toml"), &a[6..].to_vec()).unwrap();
    c.model.encoder.base = ebase;
    c.model.unet.base = ubase;
    c.model.unet.groups = c.model.unet.groups.min(ubase);
    c.train.batch_size = batch;
    let d: Device = soda::device::select(dev).unwrap().device;
    let t0 = Instant::now();
    let schedule = Schedule::new(&c.diffusion);
    let mut st = State::new(&c, "", &d);
    let ad = d.clone().autodiff();
    println!(
        "enc {} unet {} init {:?}",
        soda::model::parameters::count(&st.model.encoder),
        soda::model::parameters::count(&st.model.unet),
        t0.elapsed()
    );
    let mut ts = vec![];
    for s in 1..=n {
        let mut r = soda::rng::stream(1, soda::rng::Purpose::Test, s);
        let x: Vec<f32> = soda::rng::normal(&mut r, batch * 3072).iter().map(|v| v.clamp(-1., 1.)).collect();
        let t = Instant::now();
        let (st2, o) = step(st, Pair::new(x.clone(), x, &ad), &schedule, &c, s, 1e-4);
        st = st2;
        let l = o.loss.into_scalar::<f32>();
        let e = t.elapsed().as_secs_f64();
        ts.push(e);
        if s <= 3 || s == n {
            println!("step {s} loss {l:.5} norm {:.4} {e:.3}s {:.1} img/s", o.grad_norm.into_scalar::<f32>(), batch as f64 / e);
        }
    }
    ts.sort_by(f64::total_cmp);
    println!("median {:.3}s {:.2} img/s", ts[ts.len() / 2], batch as f64 / ts[ts.len() / 2]);
}
