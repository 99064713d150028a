//! CAP_NET_ADMIN is all it needs, and what it misses it names.

use std::process::Command;

use fib::Error;

use crate::node::{in_a_node, open_config, routes, start, want};

const CHILD: &str = "FIB_TEST_RIGHTS";

/// Runs one test of this binary again, with the capabilities that `bounding` leaves of all.
fn again(test: &str, bounding: &str) {
    let output = Command::new("setpriv")
        .args(["--bounding-set", bounding, "--inh-caps", "-all"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("setpriv of util-linux is installed");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn without_net_admin_it_says_what_is_missing() {
    if std::env::var_os(CHILD).is_some() {
        let refused = runtime().block_on(fib::Fib::start(open_config()));
        assert!(matches!(refused, Err(Error::Permission)), "{refused:?}");
        let refused = runtime().block_on(fib::cleanup(fib::Mark::default()));
        assert!(matches!(refused, Err(Error::Permission)), "{refused:?}");
        return;
    }
    in_a_node(|| async {
        again(
            "rights::without_net_admin_it_says_what_is_missing",
            "-net_admin",
        )
    });
}

#[test]
fn net_admin_is_all_it_needs() {
    if std::env::var_os(CHILD).is_some() {
        runtime().block_on(async {
            let fib = start(open_config()).await;
            fib.update(vec![want("10.244.2.0/24", &["10.0.0.2"])])
                .await
                .unwrap();
            fib.flush().await.unwrap();
            assert_eq!(
                routes(179),
                ["10.244.2.0/24 via 10.0.0.2 dev eth0 metric 1024"]
            );
        });
        return;
    }
    in_a_node(|| async { again("rights::net_admin_is_all_it_needs", "-all,+net_admin") });
}
