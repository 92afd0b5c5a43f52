use super::*;
use crate::files::sha256;
use crate::rng::{self, Purpose};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;

/// Colours without symmetry or saturation; `tests/reference/rand_augment.py` generates the same
/// pattern.
pub fn pattern() -> Vec<u8> {
    let value = |i: usize| {
        let (c, y, x) = (i / PLANE, i % PLANE / SIDE, i % SIDE);
        (30 + (x * 7 + y * 13 + c * 40 + x * y % 11 * 9 + c * x) % 190) as u8
    };
    (0..3 * PLANE).map(value).collect()
}

fn applied(op: Op, image: &[u8], magnitude: f64) -> Vec<u8> {
    let mut out = image.to_vec();
    op.apply(&mut out, magnitude);
    out
}

#[test]
fn magnitude_9_gives_what_pillow_gives() {
    let golden: [(Op, &[&str]); 13] = [
        (Op::ShearX, &["8050b5153eccfefd", "9704dfe9c1a4c735"]),
        (Op::ShearY, &["7c1ad42cef564009", "d55c5aad6e2ecbe6"]),
        (Op::TranslateX, &["721b3d893eeaff6d", "95db59070fc5b4d6"]),
        (Op::TranslateY, &["97b93591bef336a5", "f89622568723affe"]),
        (Op::Rotate, &["aea04131c2da7532", "6f8339f4ed96c1ac"]),
        (Op::Brightness, &["a2e231631e294e07", "55f06975c9d69dca"]),
        (Op::Color, &["9a21e15e6dd13a6b", "73f206556da28708"]),
        (Op::Contrast, &["0734a7c2be8a6ac3", "e8a33cfb4eded193"]),
        (Op::Sharpness, &["4eb2c70604c5bf8b", "7c0c81fbd4baa302"]),
        (Op::Posterize, &["7eab1126bf1bc9d3"]),
        (Op::Solarize, &["bda8932b2a76c25c"]),
        (Op::AutoContrast, &["731db67c3d629374"]),
        (Op::Equalize, &["756db2282c60e000"]),
    ];
    for (op, digests) in golden {
        assert_eq!(op.signed(), digests.len() == 2, "{op:?}");
        for (digest, sign) in digests.iter().zip([1.0, -1.0]) {
            let out = applied(op, &pattern(), sign * op.magnitude(9, SIDE));
            assert_eq!(&sha256(&out)[..16], *digest, "{op:?} x {sign}");
        }
    }
}

#[test]
fn magnitude_0_changes_nothing_where_the_magnitude_acts() {
    for op in Op::ALL {
        let out = applied(op, &pattern(), op.magnitude(0, SIDE));
        match op {
            // Both take effect whatever the magnitude.
            Op::AutoContrast | Op::Equalize => assert_ne!(out, pattern(), "{op:?}"),
            _ => assert_eq!(out, pattern(), "{op:?}"),
        }
    }
    // The largest possible solarize threshold, 255, still inverts white.
    assert_eq!(
        applied(Op::Solarize, &[255; 3 * PLANE], Op::Solarize.magnitude(0, SIDE)),
        [0; 3 * PLANE]
    );
}

#[test]
fn magnitudes_span_the_ranges_of_torchvision() {
    let last = |op: Op| op.magnitude(BINS - 1, SIDE);
    assert_eq!((last(Op::ShearX), last(Op::Rotate), last(Op::Color)), (0.3, 30.0, 0.9));
    assert!((last(Op::TranslateY) - 14.501_510_57).abs() < 1e-6);
    assert_eq!(
        [0, 3, 4, 9, 15, 30].map(|bin| Op::Posterize.magnitude(bin, SIDE)),
        [8.0, 8.0, 7.0, 7.0, 6.0, 4.0]
    );
    assert_eq!([0, 9, 30].map(|bin| Op::Solarize.magnitude(bin, SIDE)), [255.0, 178.5, 0.0]);
}

#[test]
fn rotates_counter_clockwise_about_the_centre() {
    let mut image = vec![0; 3 * PLANE];
    image[3 * SIDE + 20] = 200;
    let out = applied(Op::Rotate, &image, 90.0);
    // A quarter turn maps column x to row 31 - x, and row y to column y.
    assert_eq!(out[(31 - 20) * SIDE + 3], 200);
    assert_eq!(out.iter().filter(|&&p| p > 0).count(), 1);
    // The corners are sampled from outside the image.
    let turned = applied(Op::Rotate, &[100; 3 * PLANE], 30.0);
    assert_eq!((turned[0], turned[PLANE / 2 + SIDE / 2]), (0, 100));
}

#[test]
fn translates_by_whole_pixels_and_fills_with_black() {
    let out = applied(Op::TranslateX, &pattern(), 4.9);
    for y in 0..SIDE {
        assert_eq!(out[y * SIDE..][..4], [0; 4]);
        assert_eq!(out[y * SIDE + 4..][..SIDE - 4], pattern()[y * SIDE..][..SIDE - 4]);
    }
}

#[test]
fn equalize_and_auto_contrast_leave_a_constant_image_alone() {
    for op in [Op::AutoContrast, Op::Equalize, Op::Sharpness] {
        assert_eq!(applied(op, &[77; 3 * PLANE], op.magnitude(9, SIDE)), [77; 3 * PLANE], "{op:?}");
    }
}

#[test]
fn auto_contrast_reaches_both_ends_of_each_channel() {
    let out = applied(Op::AutoContrast, &pattern(), 0.0);
    for plane in out.chunks(PLANE) {
        assert_eq!((plane.iter().min(), plane.iter().max()), (Some(&0), Some(&255)));
    }
}

#[test]
fn samples_every_operation_about_equally_often() {
    let mut rng = rng::stream(5, Purpose::Test, 0);
    let outcomes: Vec<Vec<u8>> = Op::ALL
        .iter()
        .flat_map(|&op| {
            [1.0, -1.0].map(|sign| {
                applied(
                    op,
                    &pattern(),
                    if op.signed() { sign } else { 1.0 } * op.magnitude(9, SIDE),
                )
            })
        })
        .collect();
    let mut counts = [0; 14];
    for _ in 0..14_000 {
        let mut image = pattern();
        rand_augment(&mut image, 1, 9, true, &mut rng);
        let found = outcomes
            .iter()
            .position(|o| *o == image)
            .expect("one operation at magnitude 9, or none");
        counts[found / 2] += 1;
    }
    // 1,000 of each are expected, with a standard deviation of 30.
    assert!(counts.iter().all(|&c| (850..1150).contains(&c)), "{counts:?}");
}

#[test]
fn without_geometric_operations_pixels_do_not_move() {
    // The left half is black, the right half white, with nothing between: only moving pixels mixes
    // the halves.
    let halves: Vec<u8> =
        (0..3 * PLANE).map(|i| if i % SIDE < SIDE / 2 { 0 } else { 255 }).collect();
    let moved = |geometric: bool| {
        let draw = |i: u64| {
            let mut image = halves.clone();
            rand_augment(&mut image, 2, 30, geometric, &mut rng::stream(1, Purpose::Test, i));
            // Sharpness changes the pixels next to the edge.
            let row = |side: std::ops::Range<usize>| {
                image[side.start..side.end].windows(2).all(|p| p[0] == p[1])
            };
            !(row(SIDE * 16 + 1..SIDE * 16 + SIDE / 2 - 3)
                && row(SIDE * 16 + SIDE / 2 + 3..SIDE * 17 - 1))
        };
        (0..300).filter(|&i| draw(i)).count()
    };
    assert_eq!(moved(false), 0);
    assert!(moved(true) > 60);
}
