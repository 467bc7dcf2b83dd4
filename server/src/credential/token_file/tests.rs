use std::os::unix::fs::symlink;

use super::*;

fn in_ms(seconds: i64) -> i64 {
    (OffsetDateTime::now_utc().unix_timestamp() + seconds) * 1000
}

fn qwen(seconds: i64) -> String {
    json!({
        "access_token": "qwen-access-0123456789abcdef", "refresh_token": "qwen-refresh-0123456789",
        "token_type": "Bearer", "resource_url": "portal.qwen.ai", "expiry_date": in_ms(seconds),
    })
    .to_string()
}

fn written(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("oauth_creds.json");
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    path
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn refer(path: &Path) -> Secret {
    FileReference { path: path.to_owned(), project: None }.to_secret()
}

fn now(tool: Tool, secret: &Secret) -> Result<Token, NoToken> {
    Token::now(tool, secret, true).map(|token| token.expect("no plain token"))
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

#[test]
fn a_renewal_by_the_tool_is_seen_at_the_next_use() {
    let folder = folder();
    let path = written(folder.path(), &qwen(3600));
    let row = refer(&path);
    assert_eq!(now(Tool::QwenCode, &row).expect("a token").value(), b"qwen-access-0123456789abcdef");
    written(folder.path(), &qwen(3600).replace("qwen-access", "qwen-renewed"));
    let renewed = now(Tool::QwenCode, &row).expect("a token");
    assert_eq!(renewed.value(), b"qwen-renewed-0123456789abcdef");
    assert_eq!(renewed.site(), Some(Site::Host("portal.qwen.ai".to_owned())));
}

#[test]
fn a_token_that_is_over_names_the_tool_to_run() {
    let folder = folder();
    for seconds in [-10, 30] {
        let path = written(folder.path(), &qwen(seconds));
        let error = now(Tool::QwenCode, &refer(&path)).err().expect("over");
        assert!(error.over && error.why.contains("expired at 20"), "{error}");
        assert!(error.hint.ends_with(": qwen"), "{error}");
        let error = now(Tool::QwenCode, &secret(&qwen(seconds))).err().expect("over");
        assert!(error.over && error.hint.contains("paste"), "{error}");
    }
}

#[test]
fn what_is_missing_is_named_and_no_value_is() {
    for (tool, text, why) in [
        (Tool::QwenCode, "{}", "have no `access_token`"),
        (Tool::ClaudeCode, r#"{"claudeAiOauth":{}}"#, "have no `accessToken`"),
        (Tool::GeminiCli, r#"{"access_token":7}"#, "have a number in the field `access_token`"),
        (
            Tool::GeminiCli,
            r#"{"access_token":"ya29.secret-value-1","expiry_date":"soon"}"#,
            "no point of time in `expiry_date`",
        ),
        (Tool::GeminiCli, r#"{"access_token":"ya29.secret value-1"}"#, "have blanks"),
        (
            Tool::QwenCode,
            r#"{"access_token":"secret-value-1","resource_url":7}"#,
            "have a number in the field `resource_url`",
        ),
        (
            Tool::GeminiCli,
            r#"{"access_token":"ya29.secret-value-1","projectId":["x"]}"#,
            "have a list in the field `projectId`",
        ),
        (Tool::GeminiCli, r#"{"access_token":"ya29.secret-value-1""#, "are not JSON"),
    ] {
        let error = now(tool, &secret(text)).err().expect("wrong");
        assert!(error.why.contains(why) && !error.to_string().contains("value-1"), "{error}");
    }
}

#[test]
fn each_tool_is_read_in_its_own_way() {
    let later = in_ms(3600);
    let claude = json!({"claudeAiOauth": {"accessToken": "sk-ant-oat01-abc", "refreshToken": "sk-ant-ort01-def",
        "expiresAt": later, "scopes": ["user:inference"], "subscriptionType": "max"}, "mcpOAuth": {}});
    let token = now(Tool::ClaudeCode, &secret(&claude.to_string())).expect("a token");
    assert_eq!((token.value(), token.site()), (b"sk-ant-oat01-abc".as_slice(), None));
    let gemini = json!({"access_token": "ya29.abc", "expiry_date": later, "projectId": "my-project"});
    let token = now(Tool::GeminiCli, &secret(&gemini.to_string())).expect("a token");
    assert_eq!(token.site(), Some(Site::Project("my-project".to_owned())));
    for url in ["portal.qwen.ai", "https://portal.qwen.ai/v1", "https://PORTAL.qwen.ai/"] {
        assert_eq!(host_of(url), "portal.qwen.ai", "{url}");
    }
}

#[test]
fn a_file_that_others_can_get_at_is_refused() {
    let folder = folder();
    let path = written(folder.path(), &qwen(3600));
    let why = |path: &Path| read_private(path).expect_err("refused");
    for mode in [0o640, 0o604, 0o660, 0o602] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        assert!(why(&path).contains("chmod 600"), "{mode:o}: {}", why(&path));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    let link = folder.path().join("link.json");
    symlink(&path, &link).expect("a link");
    assert!(why(&link).contains("symbolic link"), "{}", why(&link));
    assert!(why(folder.path()).contains("is not a file"));
    assert!(why(&folder.path().join("none")).contains("there is no"));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("a mode");
    assert!(why(&path).contains("can replace"), "{}", why(&path));
}

#[test]
fn a_file_that_is_being_written_is_read_again() {
    let whole = qwen(3600);
    let said = |first: &str, reads: &mut u32| {
        let text = settled(&mut || {
            *reads += 1;
            let text = if *reads == 1 { first } else { whole.as_str() };
            Ok(Zeroizing::new(text.as_bytes().to_vec()))
        });
        String::from_utf8(text.expect("read").to_vec()).expect("text")
    };
    for (first, expected) in [("", 2), (&whole[..20], 2), (whole.as_str(), 1)] {
        let mut reads = 0;
        assert_eq!(said(first, &mut reads), whole);
        assert_eq!(reads, expected, "{first}");
    }
    let broken = settled(&mut || Ok(Zeroizing::new(b"{".to_vec()))).expect("what there is");
    assert_eq!(*broken, b"{", "whose error is said");
    assert!(settled(&mut || Err("gone".to_owned())).is_err());
}

#[test]
fn where_a_file_lies_is_not_told_to_callers() {
    let folder = folder();
    let place = folder.path().display().to_string();
    let path = written(folder.path(), &qwen(-10));
    let row = refer(&path);
    let told = |row: &Secret| {
        let none = now(Tool::QwenCode, row).err().expect("no token");
        assert!(none.why.contains(&place), "its owner is told: {none}");
        none.told(row)
    };
    assert!(told(&row).contains("in the file expired at 20"), "{}", told(&row));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
    assert!(!told(&row).contains(&place), "{}", told(&row));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("a mode");
    assert!(!told(&row).contains(&place), "{}", told(&row));
    fs::remove_file(&path).expect("removed");
    assert!(!told(&row).contains(&place), "{}", told(&row));
    let pasted = secret(&qwen(-10));
    let none = now(Tool::QwenCode, &pasted).err().expect("over");
    assert_eq!(none.told(&pasted), none.to_string());
}

#[test]
fn what_could_make_new_tokens_is_not_kept() {
    let kept = pared(Tool::QwenCode, &secret(&qwen(3600))).expect("pared");
    kept.expose(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        assert!(
            text.contains("qwen-access") && text.contains("portal.qwen.ai") && !text.contains("refresh"),
            "{text}"
        );
    });
    assert!(now(Tool::QwenCode, &kept).is_ok());
    let claude = r#"{"claudeAiOauth":{"accessToken":"sk-ant-oat01-abc","refreshToken":"sk-ant-ort01-def"}}"#;
    let kept = pared(Tool::ClaudeCode, &secret(claude)).expect("pared");
    kept.expose(|bytes| assert!(!String::from_utf8_lossy(bytes).contains("ort01")));
    assert!(now(Tool::ClaudeCode, &kept).is_ok());
}

#[test]
fn only_rows_of_this_machine_name_files() {
    let folder = folder();
    let row = refer(&written(folder.path(), &qwen(3600)));
    let error = Token::now(Tool::QwenCode, &row, false).err().expect("refused");
    assert!(error.why.contains("names a file"), "{error}");
    let newer = secret(r#"{"orchCredentialFile":2,"path":"/x"}"#);
    assert!(now(Tool::QwenCode, &newer).err().expect("newer").why.contains("version"));
}

#[test]
fn nothing_of_a_pasted_file_is_kept_by_a_field_that_stands_twice() {
    let refresh = r#""refresh_token":"qwen-refresh""#;
    for text in [
        format!(
            r#"{{"orchCredentialFile":1,"orchCredentialFile":1,"access_token":"qwen-access",{refresh}}}"#
        ),
        format!(
            r#"{{"access_token":"qwen-access","orchCredentialFile":0,{refresh},"orchCredentialFile":null}}"#
        ),
        format!(r#"{{"access_token":"qwen-access","access_token":"another",{refresh}}}"#),
    ] {
        let row = secret(&text);
        assert!(pared(Tool::QwenCode, &row).is_none(), "{text}");
        let none = now(Tool::QwenCode, &row).err().expect(&text);
        assert!(none.why.contains("have a field twice"), "{none}");
    }
    // A reference is made of its path alone.
    let row = secret(&format!(r#"{{"orchCredentialFile":1,"path":"/x/y.json","projectId":"p",{refresh}}}"#));
    let kept = pared(Tool::GeminiCli, &row).expect("pared");
    kept.expose(|bytes| assert!(!String::from_utf8_lossy(bytes).contains("refresh")));
    let reference = FileReference { path: "/x/y.json".into(), project: Some("p".to_owned()) };
    assert_eq!(FileReference::read(&kept), Ok(Some(reference)));
}
