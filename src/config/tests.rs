//! Layers, origins and problems of whole configurations.

use std::path::PathBuf;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Layers {
    Layers::new(
        None,
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
    )
}

/// The layers with a file of this text, and the folder that must outlive them.
fn with_file(name: &str, text: &str, layers: Layers) -> (Layers, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    (
        Layers {
            file: Some(path),
            ..layers
        },
        folder,
    )
}

fn file_of(layers: &Layers) -> Origin {
    Origin::File(layers.file.as_ref().unwrap().display().to_string())
}

#[test]
fn without_any_layer_the_defaults_are_sound() {
    let (common, controller) = controller(&Layers::default()).unwrap();
    assert_eq!(common.log_format, LogFormat::Auto);
    assert_eq!(controller.lease_duration, Duration::from_secs(15));
    assert_eq!(controller.pool_labels[0], "karpenter.sh/nodepool");
    assert_eq!((controller.kafka, controller.prometheus), (None, None));
    assert!(
        cache(&Layers::default())
            .unwrap()
            .1
            .upstreams
            .contains_key("docker.io")
    );
}

#[test]
fn flags_beat_the_environment_which_beats_the_file_which_beats_the_defaults() {
    let text = "[log]\nlevel = \"error\"\nformat = \"text\"\n[shutdown]\ndeadline = \"7s\"\n";
    let variables = environment(&[
        ("FORELAY_LOG__LEVEL", "warn"),
        ("FORELAY_LOG__FORMAT", "json"),
    ]);
    let (layers, _folder) = with_file("a.toml", text, variables);
    let layers = layers.with_flag("log.level", "--log-level", "debug".into());
    let common = common(&layers).unwrap();
    assert_eq!(common.log_level, "debug");
    assert_eq!(common.log_format, LogFormat::Json);
    assert_eq!(common.shutdown_deadline, Duration::from_secs(7));
}

#[test]
fn yaml_and_toml_say_the_same() {
    let toml = "[cache]\nmax_bytes = \"7GiB\"\n[cache.upstreams]\n\"quay.io\" = \"https://q/\"\n";
    let yaml = "cache:\n  max_bytes: 7GiB\n  upstreams:\n    quay.io: https://q/\n";
    let (toml, _a) = with_file("c.toml", toml, Layers::default());
    let (yaml, _b) = with_file("c.yaml", yaml, Layers::default());
    let cache_of = |layers| cache(layers).unwrap().1;
    assert_eq!(cache_of(&toml), cache_of(&yaml));
    assert_eq!(
        cache_of(&toml).upstreams,
        BTreeMap::from([("quay.io".into(), "https://q".into())])
    );
}

#[test]
fn lists_and_tables_can_be_written_in_a_variable() {
    let layers = environment(&[
        ("NODE_NAME", "node-7"),
        ("FORELAY_AGENT__CACHES", "http://a:5000, http://b:5000/"),
        ("FORELAY_AGENT__ORIGINS", "docker.io=http://127.0.0.1:1"),
        ("FORELAY_AGENT__BANDWIDTH_LIMIT", "1Gbit/s"),
        ("FORELAY_AGENT__CONCURRENCY", "2"),
        ("FORELAY_AGENT__ORIGIN_FALLBACK", "false"),
        ("FORELAY_CACHE_SERVICE_HOST", "10.0.0.1"),
    ]);
    let agent = agent(&layers).unwrap().1;
    assert_eq!(agent.caches, ["http://a:5000", "http://b:5000"]);
    assert_eq!(agent.origins["docker.io"], "http://127.0.0.1:1");
    assert_eq!(agent.bandwidth_limit, Some(Bandwidth(125_000_000.0)));
    assert_eq!((agent.concurrency, agent.origin_fallback), (2, false));
}

#[test]
fn the_forelay_form_of_a_downward_variable_wins() {
    let both = environment(&[
        ("FORELAY_AGENT__NODE_NAME", "ours"),
        ("NODE_NAME", "theirs"),
    ]);
    assert_eq!(agent(&both).unwrap().1.node_name, "ours");
}

#[test]
fn every_problem_is_reported_at_once_with_its_origin() {
    let text = "[log]\nlevle = \"info\"\nformat = \"xml\"\n\
        [controller.lease]\nduration = 15\n\
        [[controller.prometheus.queries]]\nname = \"a\"\nqeury = \"up\"\n\
        [nonsense]\nx = 1\n";
    let variables = environment(&[
        ("FORELAY_AGENT__DISK_BUDGET", "lots"),
        ("FORELAY_AGENT__CONCURRENCY", "1.5"),
        ("FORELAY_CACHE__LISTEN", "5000"),
        ("FORELAY_CACHE__UPSTREAMS", "quay.io"),
    ]);
    let (layers, _folder) = with_file("bad.toml", text, variables);
    let layers = layers.with_flag("log.level", "--log-level", "=[".into());
    let problems = cache(&layers).unwrap_err().0;
    let found: Vec<(&str, &Origin)> = problems
        .iter()
        .map(|p| (p.key.as_str(), &p.origin))
        .collect();
    let file = file_of(&layers);
    let variable = |name: &str| Origin::Variable(format!("FORELAY_{name}"));
    assert_eq!(
        found,
        [
            ("agent.concurrency", &variable("AGENT__CONCURRENCY")),
            ("agent.disk_budget", &variable("AGENT__DISK_BUDGET")),
            ("cache.upstreams", &variable("CACHE__UPSTREAMS")),
            ("controller.lease.duration", &file),
            ("controller.prometheus.queries", &file),
            ("log.format", &file),
            ("log.levle", &file),
            ("nonsense.x", &file),
            ("log.level", &Origin::Flag("--log-level".into())),
            ("cache.listen", &variable("CACHE__LISTEN")),
        ]
    );
    let shown = Problems(problems).to_string();
    for part in [
        "10 problems",
        "did you mean `log.level`?",
        "`xml` is not one of `auto`, `text`, `json`",
        "for example controller.lease.duration = \"15s\"",
        "`lots` is not a size",
        "FORELAY_AGENT__DISK_BUDGET=20GiB",
        "unknown field `qeury`",
        "`quay.io` is not `name=value`",
    ] {
        assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
    }
}

#[test]
fn a_bad_url_in_a_table_names_its_entry() {
    let text = "[cache.upstreams]\n\"quay.io\" = \"ftp://quay.io\"\nlocal = \"https://ok\"\n";
    let (layers, _folder) = with_file("c.toml", text, Layers::default());
    let problems = cache(&layers).unwrap_err().0;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].key, "cache.upstreams.\"quay.io\"");
    assert_eq!(problems[0].origin, file_of(&layers));
}

#[test]
fn values_that_parse_but_cannot_work_are_problems() {
    let layers = environment(&[
        ("FORELAY_CONTROLLER__LEASE__DURATION", "1500ms"),
        ("FORELAY_CONTROLLER__NAMESPACE", "Has Spaces"),
        ("FORELAY_CONTROLLER__POOL_LABELS", ""),
        ("FORELAY_CONTROLLER__KAFKA__BROKERS", "kafka"),
        ("FORELAY_CONTROLLER__KAFKA__TOPICS", ""),
        ("FORELAY_CONTROLLER__PROMETHEUS__URL", "prometheus:9090"),
        ("FORELAY_CONTROLLER__PROMETHEUS__TIMEOUT", "1h"),
        ("FORELAY_CONTROLLER__MODEL", "/nowhere/model.toml"),
        ("FORELAY_KUBERNETES__KUBECONFIG", "/nowhere/kubeconfig"),
        ("FORELAY_CONTROLLER__STEP_INTERVAL", "0s"),
    ]);
    let problems = controller(&layers).unwrap_err();
    let keys: BTreeMap<_, _> = problems
        .0
        .iter()
        .map(|p| (p.key.as_str(), &p.origin))
        .collect();
    for key in [
        "controller.lease.duration",
        "controller.namespace",
        "controller.pool_labels",
        "controller.kafka.brokers",
        "controller.kafka.topics",
        "controller.prometheus.url",
        "controller.prometheus.timeout",
        "controller.model",
        "kubernetes.kubeconfig",
        "controller.step_interval",
    ] {
        assert!(keys.contains_key(key), "{key} is not in:\n{problems}");
    }
}

#[test]
fn a_mirror_listens_on_loopback_and_only_where_origins_may_be_asked() {
    let with = |key: &str, value: &str| {
        environment(&[
            ("NODE_NAME", "node-7"),
            ("FORELAY_AGENT__CACHES", "http://a:5000"),
            (key, value),
        ])
    };
    let mirror = agent(&with("FORELAY_AGENT__MIRROR__FRESH", "5m"));
    let mirror = mirror.unwrap().1.mirror;
    assert!(mirror.enabled && mirror.listen.ip().is_loopback());
    assert_eq!(mirror.fresh, Duration::from_mins(5));
    for (key, value) in [
        ("FORELAY_AGENT__MIRROR__ENABLED", "false"),
        ("FORELAY_AGENT__ORIGIN_FALLBACK", "false"),
    ] {
        let mirror = agent(&with(key, value)).unwrap().1.mirror;
        assert!(!mirror.enabled, "{key}");
    }
    let open = agent(&with("FORELAY_AGENT__MIRROR__LISTEN", "0.0.0.0:9467"));
    let keys: Vec<_> = open.unwrap_err().0.into_iter().map(|p| p.key).collect();
    assert_eq!(keys, ["agent.mirror.listen"]);
}

#[test]
fn an_expander_has_an_address_a_certificate_and_a_key_and_a_followed_lease_two_names() {
    let off = controller(&environment(&[])).unwrap().1;
    assert_eq!((off.expander, off.lease_follow), (None, None));
    let listen = ("FORELAY_CONTROLLER__EXPANDER__LISTEN", "127.0.0.1:9443");
    let on = environment(&[
        listen,
        (
            "FORELAY_CONTROLLER__EXPANDER__CERTIFICATE",
            "/nowhere/tls.crt",
        ),
        ("FORELAY_CONTROLLER__EXPANDER__KEY", "/nowhere/tls.key"),
        (
            "FORELAY_CONTROLLER__LEASE__FOLLOW",
            "kube-system/cluster-autoscaler",
        ),
    ]);
    let on = controller(&on).unwrap().1;
    assert_eq!(on.expander.unwrap().listen.port(), 9443);
    let followed = ("kube-system".to_owned(), "cluster-autoscaler".to_owned());
    assert_eq!(on.lease_follow, Some(followed));
    let bare = environment(&[
        listen,
        ("FORELAY_CONTROLLER__LEASE__FOLLOW", "cluster-autoscaler"),
    ]);
    let problems = controller(&bare).unwrap_err().0.into_iter();
    let mut keys: Vec<_> = problems.map(|problem| problem.key).collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "controller.expander.certificate",
            "controller.expander.key",
            "controller.lease.follow"
        ]
    );
}

#[test]
fn blobs_are_kept_only_where_containerd_may_be_the_runtime() {
    for (runtime, is_fine) in [
        ("auto", true),
        ("containerd", true),
        ("cri", false),
        ("layout", false),
    ] {
        let found = agent(&environment(&[
            ("NODE_NAME", "node-7"),
            ("FORELAY_AGENT__BLOBS", "true"),
            ("FORELAY_AGENT__RUNTIME", runtime),
        ]));
        match found {
            Ok((_, agent)) => assert!(is_fine && agent.blobs, "{runtime}"),
            Err(problems) => {
                let keys: Vec<_> = problems.0.iter().map(|p| p.key.as_str()).collect();
                assert_eq!(
                    (is_fine, &keys[..]),
                    (false, &["agent.blobs"][..]),
                    "{runtime}"
                );
            }
        }
    }
}

#[test]
fn an_agent_without_a_node_or_a_place_to_fetch_from_is_refused() {
    let layers = environment(&[("FORELAY_AGENT__ORIGIN_FALLBACK", "no")]);
    let keys: Vec<_> = agent(&layers)
        .unwrap_err()
        .0
        .into_iter()
        .map(|p| p.key)
        .collect();
    assert_eq!(keys, ["agent.node_name", "agent.origin_fallback"]);
}

#[test]
fn a_file_that_is_absent_broken_or_unnamed_is_one_problem_with_its_path() {
    let missing = Layers {
        file: Some(PathBuf::from("no/such/file.toml")),
        ..Layers::default()
    };
    let (broken, _a) = with_file("b.toml", "log = [", Layers::default());
    let (scalar, _b) = with_file("b.yaml", "just words", Layers::default());
    let (unnamed, _c) = with_file("forelay.conf", "", Layers::default());
    for layers in [missing, broken, scalar, unnamed] {
        let problems = common(&layers).unwrap_err().0;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].origin, file_of(&layers));
        assert!(problems[0].key.is_empty());
    }
}

#[test]
fn every_key_has_a_meaning_and_a_default_or_an_example() {
    let page = reference::markdown();
    let rows: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    assert!(rows.len() > 35, "{page}");
    for row in rows {
        let cells: Vec<_> = row.split(" | ").collect();
        assert_eq!(cells.len(), 4, "{row}");
        assert!(
            !cells[2].contains("null") && !cells[3].trim_matches([' ', '|']).is_empty(),
            "{row}"
        );
    }
}
