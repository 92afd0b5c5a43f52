//! The convolutions of Inception-v3.

use std::collections::BTreeMap;

/// Returns the names of the convolutions and the shapes of their weights.
pub fn shapes() -> BTreeMap<String, Vec<usize>> {
    let mut all = BTreeMap::new();
    let mut add = |block: &str, layers: &[(&str, usize, usize, [usize; 2])]| {
        for (name, from, to, [height, width]) in layers {
            let name =
                if block.is_empty() { (*name).to_owned() } else { format!("{block}.{name}") };
            all.insert(name, vec![*to, *from, *height, *width]);
        }
    };
    let (one, three, five, row, column) = ([1, 1], [3, 3], [5, 5], [1, 7], [7, 1]);
    add(
        "",
        &[
            ("Conv2d_1a_3x3", 3, 32, three),
            ("Conv2d_2a_3x3", 32, 32, three),
            ("Conv2d_2b_3x3", 32, 64, three),
            ("Conv2d_3b_1x1", 64, 80, one),
            ("Conv2d_4a_3x3", 80, 192, three),
        ],
    );
    for (block, from, pooled) in
        [("Mixed_5b", 192, 32), ("Mixed_5c", 256, 64), ("Mixed_5d", 288, 64)]
    {
        add(
            block,
            &[
                ("branch1x1", from, 64, one),
                ("branch5x5_1", from, 48, one),
                ("branch5x5_2", 48, 64, five),
                ("branch3x3dbl_1", from, 64, one),
                ("branch3x3dbl_2", 64, 96, three),
                ("branch3x3dbl_3", 96, 96, three),
                ("branch_pool", from, pooled, one),
            ],
        );
    }
    add(
        "Mixed_6a",
        &[
            ("branch3x3", 288, 384, three),
            ("branch3x3dbl_1", 288, 64, one),
            ("branch3x3dbl_2", 64, 96, three),
            ("branch3x3dbl_3", 96, 96, three),
        ],
    );
    for (block, c) in [("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)] {
        add(
            block,
            &[
                ("branch1x1", 768, 192, one),
                ("branch7x7_1", 768, c, one),
                ("branch7x7_2", c, c, row),
                ("branch7x7_3", c, 192, column),
                ("branch7x7dbl_1", 768, c, one),
                ("branch7x7dbl_2", c, c, column),
                ("branch7x7dbl_3", c, c, row),
                ("branch7x7dbl_4", c, c, column),
                ("branch7x7dbl_5", c, 192, row),
                ("branch_pool", 768, 192, one),
            ],
        );
    }
    add(
        "Mixed_7a",
        &[
            ("branch3x3_1", 768, 192, one),
            ("branch3x3_2", 192, 320, three),
            ("branch7x7x3_1", 768, 192, one),
            ("branch7x7x3_2", 192, 192, row),
            ("branch7x7x3_3", 192, 192, column),
            ("branch7x7x3_4", 192, 192, three),
        ],
    );
    for (block, from) in [("Mixed_7b", 1280), ("Mixed_7c", 2048)] {
        add(
            block,
            &[
                ("branch1x1", from, 320, one),
                ("branch3x3_1", from, 384, one),
                ("branch3x3_2a", 384, 384, [1, 3]),
                ("branch3x3_2b", 384, 384, [3, 1]),
                ("branch3x3dbl_1", from, 448, one),
                ("branch3x3dbl_2", 448, 384, three),
                ("branch3x3dbl_3a", 384, 384, [1, 3]),
                ("branch3x3dbl_3b", 384, 384, [3, 1]),
                ("branch_pool", from, 192, one),
            ],
        );
    }
    all
}
