use super::*;

#[test]
fn sizes() {
    for (text, bytes) in [
        ("0", 0),
        ("17", 17),
        ("17B", 17),
        ("1kB", 1000),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("256MiB", 256 << 20),
        ("256 MiB", 256 << 20),
        ("10MB", 10_000_000),
        ("1.5GiB", 3 << 29),
        ("1_000", 1000),
        ("2TiB", 2 << 40),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(text.parse::<ByteSize>().unwrap().bytes(), bytes, "{text}");
    }
    for text in [
        "",
        "MiB",
        "1M",
        "1K",
        "-1",
        "+1",
        "1.5",
        "1.0001KiB",
        "1e3",
        "1 ",
        " 1",
        "1..5MiB",
        "1.MiB ",
        "0x10",
        "1MiBB",
        "½MiB",
        "1__0",
        "_1",
        "NaN",
    ] {
        assert!(
            matches!(text.parse::<ByteSize>(), Err(LimitError::Size(_))),
            "{text:?} {:?}",
            text.parse::<ByteSize>()
        );
    }
    assert!(matches!("18446744073709551616".parse::<ByteSize>(), Err(LimitError::TooLarge(_))));
    assert!(matches!("99999999TiB".parse::<ByteSize>(), Err(LimitError::TooLarge(_))));
    for size in [0, 1, 1000, 1024, 1536, 256 << 20, u64::MAX] {
        assert_eq!(ByteSize(size).to_string().parse::<ByteSize>().unwrap(), ByteSize(size));
    }
    assert_eq!(ByteSize(256 << 20).to_string(), "256MiB");
}

#[test]
fn durations() {
    for (text, millis) in [
        ("500ms", 500),
        ("60s", 60_000),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("1d", 86_400_000),
        ("0.5s", 500),
        ("1m5s250ms", 65_250),
        ("0s", 0),
    ] {
        assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(millis), "{text}");
    }
    for text in [
        "", "5", "m", "5 m", "5M", "5min", "-5m", "30m1h", "1m1m", "1.5", "0.0001s", "1e3s", "5m ", "∞s", ".",
    ] {
        assert!(matches!(parse_duration(text), Err(LimitError::Duration(_))), "{text:?}");
    }
    for text in ["99999999999999999999d", "1001d", "9999999999999999999999999999999999999999s"] {
        assert!(matches!(parse_duration(text), Err(LimitError::TooLarge(_))), "{text:?}");
    }
    for (millis, text) in [(0, "0s"), (500, "500ms"), (300_000, "5m"), (5_400_001, "1h30m1ms")] {
        assert_eq!(format_duration(Duration::from_millis(millis)), text);
    }
}

#[test]
fn counts() {
    for (text, count) in
        [("0", 0), ("500", 500), ("200k", 200_000), ("1.5M", 1_500_000), ("1_000_000", 1_000_000)]
    {
        assert_eq!(parse_count(text).unwrap(), count, "{text}");
    }
    for text in ["", "k", "1.5", "1.2345k", "1KiB", "-1", "1e6", "many"] {
        assert!(matches!(parse_count(text), Err(LimitError::Count(_))), "{text:?}");
    }
}

#[test]
fn money() {
    for (text, micros, shown) in [
        ("0.50", 500_000, "0.50"),
        ("$2", 2_000_000, "2.00"),
        ("0", 0, "0.00"),
        ("0.000001", 1, "0.000001"),
        ("0.1250000000", 125_000, "0.125"),
        ("1_000.5", 1_000_500_000, "1000.50"),
    ] {
        let money: MicroUsd = text.parse().unwrap();
        assert_eq!((money.micros(), money.to_string().as_str()), (micros, shown), "{text}");
    }
    for text in ["", "$", "-1", "0.0000001", "1.2.3", "1,50", "1 USD", "€1", "1e-3", ".5", "inf"] {
        assert!(text.parse::<MicroUsd>().is_err(), "{text:?}");
    }
}
