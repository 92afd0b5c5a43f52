use super::*;
use std::io::Write;

/// Checks a file of pages of ten bytes that state these sizes.
fn check(sizes: &[(u64, u64)]) -> Result<()> {
    let mut file = tempfile::tempfile().unwrap();
    for (unpacked, packed) in sizes {
        // Kind, sizes, a checksum, and a structure with a number, a flag, a text and another
        // structure.
        let mut header = vec![0x15, 0];
        for size in [unpacked, packed] {
            header.push(0x15);
            let mut left = size << 1;
            while left > 127 {
                header.push(left as u8 | 0x80);
                left >>= 7;
            }
            header.push(left as u8);
        }
        header.extend([
            0x15, 8, 0x1c, 0x15, 2, 0x11, 0x18, 3, b'a', b'b', b'c', 0x1c, 0x06, 20, 2, 0, 0, 0,
        ]);
        file.write_all(&header).unwrap();
        file.write_all(&[7; 10]).unwrap();
    }
    let length = file.stream_position().unwrap();
    Thrift::check_pages(&file, 0, length)
}

#[test]
fn a_page_that_states_more_than_it_can_hold_is_refused() {
    check(&[(10, 10), (5000, 10), (ROOM, 10)]).unwrap();
    let message = check(&[(10, 10), ((1 << 31) - 1, 10)]).unwrap_err().to_string();
    assert!(
        message.contains("a page of 10 bytes states that it unpacks to 2147483647"),
        "{message}"
    );
    let message = check(&[(10, 11)]).unwrap_err().to_string();
    assert!(message.contains("extends past the end of its column"), "{message}");
    assert!(check(&[(10, u64::MAX >> 1)]).is_err());
}

#[test]
fn endlessly_nested_structures_are_refused() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[0x1c; 100_000]).unwrap();
    assert!(Thrift::check_pages(&file, 0, 100_000).is_err());
    assert!(Thrift::check_footer(&file, 0, 100_000).is_err());
    // Lists in lists.
    file.rewind().unwrap();
    file.write_all(&[0x19; 100_000]).unwrap();
    assert!(Thrift::check_footer(&file, 0, 100_000).is_err());
}

#[test]
fn lists_have_no_more_items_than_bytes() {
    let check = |footer: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(footer).unwrap();
        Thrift::check_footer(&file, 0, footer.len() as u64).map_err(|e| e.to_string())
    };
    // A list of two numbers; lists of two billion flags or other items.
    check(&[0x39, 0x25, 2, 4, 0]).unwrap();
    let many = |kind: u8| check(&[0x39, 0xf0 | kind, 0xff, 0xff, 0xff, 0xff, 7, 0, 0]).unwrap_err();
    assert!(many(1).contains("its footer has a list of flags"), "{}", many(1));
    assert!((3..13).all(|kind| !many(kind).is_empty()));
    // Field numbers that the library would truncate to others.
    assert!(check(&[0x05, 0x80, 0x80, 0x08, 2, 0]).unwrap_err().contains("an unknown form"));
    assert!(check(&[0x05, 0x03, 2, 0]).unwrap_err().contains("an unknown form"));
}

#[test]
fn columns_must_be_as_many_as_stated_and_in_few_groups() {
    let column = |name: &str, children: u8| {
        [&[0x48, name.len() as u8], name.as_bytes(), &[0x15, 2 * children, 0]].concat()
    };
    let check = |columns: &[Vec<u8>]| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[&[0x29, 0xfc, columns.len() as u8][..], &columns.concat(), &[0]].concat())
            .unwrap();
        let length = file.stream_position().unwrap();
        Thrift::check_footer(&file, 0, length).map_err(|e| e.to_string())
    };
    let whole = [column("m", 2), column("g", 2), column("a", 0), column("b", 0), column("c", 0)];
    check(&whole).unwrap();
    assert!(check(&whole[..4]).unwrap_err().contains("more columns than it has"));
    assert!(
        check(&[column("m", 60), column("a", 0)]).unwrap_err().contains("more columns than it has")
    );
    let nested =
        |n: usize| (0..n).map(|_| column("g", 1)).chain([column("a", 0)]).collect::<Vec<_>>();
    check(&nested(64)).unwrap();
    assert!(check(&nested(65)).unwrap_err().contains("too many groups"));
}
