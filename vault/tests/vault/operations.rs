use std::time::Instant;

use crate::support::*;

#[test]
fn smoke() {
    let home = Home::new();
    let t = Instant::now();
    let mut vault = home.open();
    eprintln!("create {:?}", t.elapsed());
    for i in 0..100 {
        let t = Instant::now();
        set(&mut vault, "A", format!("0123456789abcdef{i}").as_bytes());
        if i % 20 == 0 {
            eprintln!("set {:?}", t.elapsed());
        }
    }
    drop(vault);
    for _ in 0..5 {
        let t = Instant::now();
        let vault = home.open();
        eprintln!("open {:?}", t.elapsed());
        assert_eq!(get(&vault, "A"), Some((b"0123456789abcdef99".to_vec(), 100)));
        assert_eq!(vault.audit().unwrap().len(), 101);
        let t = Instant::now();
        drop(vault);
        eprintln!("drop {:?}", t.elapsed());
    }
    let out = std::process::Command::new("ls").args(["-laR"]).arg(home.path()).output().unwrap();
    eprintln!("{}", String::from_utf8_lossy(&out.stdout));
}
