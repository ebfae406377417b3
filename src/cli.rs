//! L6: the command line, one file per subcommand.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::{self, Common, Layers};
use crate::telemetry::log::{self, Surroundings};

pub mod agent;
pub mod cache;
pub mod completions;
pub mod compose;
pub mod controller;
pub mod crds;
pub mod demo;
pub mod exit;
pub mod explain;
pub mod generate;
pub mod import;
mod kubernetes;
pub mod man;
pub mod render;
pub mod replay;
mod serve;
mod sources;
pub mod tune;

pub use exit::Exit;

/// Lays image layers down on a Kubernetes node before the pods that need them arrive.
#[derive(Debug, Parser)]
#[command(
    name = "forelay",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Brings this node the layers that its plan names: `forelay agent` as a program of its own.
#[derive(Debug, Parser)]
#[command(name = "forelay-agent", version, max_term_width = 100)]
pub struct AgentCli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The agent's.
    #[command(flatten)]
    pub args: agent::Args,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Global {
    /// Configuration file, TOML or YAML
    #[arg(long, global = true, env = "FORELAY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How log lines look: auto, text or json
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// What is logged: a level, or levels by module (info,forelay::source=debug)
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// The subcommands; each is `cli/<name>.rs` with its `Args` and `run`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Play a recorded scale-up twice on loopback: waiting, and with Forelay
    Demo(demo::Args),
    /// Score policies on recorded scenarios
    Replay(replay::Args),
    /// Search model parameters on scenarios, judge them on others
    Tune(tune::Args),
    /// Say why a node or a pool was sent what it was sent
    Explain(explain::Args),
    /// Hear the signals, predict, publish plans
    Controller(controller::Args),
    /// Bring this node the layers that its plan names
    Agent(agent::Args),
    /// Serve layers to nodes, fetching each from its registry once
    Cache(cache::Args),
    /// Print the custom resource definitions
    Crds(crds::Args),
    /// Turn a raw watch recording into a scenario
    Import(import::Args),
    /// Make a scenario of a spec: load, pods, nodes and images of a modelled cluster
    Compose(compose::Args),
    /// Print a shell's completion script
    Completions(completions::Args),
    /// Print the manual page, or write the pages of all commands
    Man(man::Args),
    /// Write what is generated from the code: references, schemas, definitions
    #[command(hide = true)]
    Generate(generate::Args),
}

/// What a command is given besides its own arguments.
#[derive(Clone, Debug)]
pub struct Context {
    /// File, environment and flags, for `config::controller` and its siblings.
    pub layers: Layers,
    /// Whether there is a terminal, a cluster, a wish for no colour.
    pub surroundings: Surroundings,
}

/// The program `forelay`.
pub fn forelay() -> ExitCode {
    let cli = Cli::parse();
    enter("forelay", run(cli))
}

/// The program `forelay-agent`.
pub fn forelay_agent() -> ExitCode {
    let cli = AgentCli::parse();
    enter("forelay-agent", run_agent(cli))
}

/// Carries out what a program was asked for, in a runtime of its own; tells its error, if any, on standard error.
fn enter(program: &str, work: impl Future<Output = anyhow::Result<Exit>>) -> ExitCode {
    // The one TLS provider: without it the first TLS connection of rustls' default builder panics.
    // It can only be refused when there is one already, and nothing has run before this line.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(work));
    let exit = outcome.unwrap_or_else(|error| {
        let exit = Exit::of(&error);
        if exit != Exit::Ok {
            let _ = writeln!(io::stderr(), "{program}: {error:#}");
        }
        exit
    });
    exit.into()
}

/// Runs the agent's own command line.
async fn run_agent(cli: AgentCli) -> anyhow::Result<Exit> {
    let context = Context::new(&cli.global, std::env::vars_os());
    agent::run(cli.args, &context).await
}

/// Runs a parsed command line.
pub async fn run(cli: Cli) -> anyhow::Result<Exit> {
    let context = Context::new(&cli.global, std::env::vars_os());
    match cli.command {
        Command::Replay(args) => replay::run(args, &context).await,
        Command::Tune(args) => tune::run(args, &context).await,
        Command::Explain(args) => explain::run(args, &context).await,
        Command::Demo(args) => demo::run(args, &context).await,
        Command::Controller(args) => controller::run(args, &context).await,
        Command::Agent(args) => agent::run(args, &context).await,
        Command::Cache(args) => cache::run(args, &context).await,
        Command::Crds(args) => crds::run(args, &context).await,
        Command::Import(args) => import::run(args, &context).await,
        Command::Compose(args) => compose::run(args, &context).await,
        Command::Completions(args) => completions::run(args, &context).await,
        Command::Man(args) => man::run(args, &context).await,
        Command::Generate(args) => generate::run(args, &context).await,
    }
}

/// The whole command line as clap knows it, for completions and manual pages.
pub fn command() -> clap::Command {
    Cli::command()
}

// === impl Context ===

impl Context {
    /// From the global flags and the environment; names and values that are no text are none of
    /// ours.
    pub fn new<V>(global: &Global, environment: V) -> Self
    where
        V: Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    {
        let environment = environment.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let mut layers = Layers::new(global.config.clone(), environment);
        if let Some(format) = &global.log_format {
            layers = layers.with_flag("log.format", "--log-format", format.clone());
        }
        if let Some(level) = &global.log_level {
            layers = layers.with_flag("log.level", "--log-level", level.clone());
        }
        Self {
            layers,
            surroundings: Surroundings::here(),
        }
    }

    /// Begins logging as the configuration of a long-running process says.
    pub fn begin(&self, common: &Common) -> anyhow::Result<()> {
        Ok(log::init(
            common.log_format,
            &common.log_level,
            self.surroundings,
        )?)
    }

    /// Begins logging for a command with a person before it: only warnings, unless asked for more,
    /// so that log lines do not tear its tables and progress apart.
    pub fn begin_quietly(&self) -> anyhow::Result<Common> {
        let layers = self.layers.clone().with_default("log.level", "warn");
        let common = config::common(&layers)?;
        self.begin(&common)?;
        Ok(common)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn global_flags_become_the_strongest_layer() {
        let cli = Cli::parse_from(["forelay", "crds", "--log-level", "debug"]);
        let environment = [("FORELAY_LOG__LEVEL".into(), "warn".into())];
        let context = Context::new(&cli.global, environment.into_iter());
        assert_eq!(config::common(&context.layers).unwrap().log_level, "debug");
    }
}
