/** The words of `--help`. */

export const dataDir: string = "a node's whole state (default: $MESH_DIR, else ~/.mesh-node)";

export const program: string =
  "A build mesh without servers: every machine that joins lends its cores and uses the others'.";

export const programExamples: string = `
Examples:
  $ mesh-node join                   start a mesh; prints an invite for other machines
  $ mesh build                       build the project in this folder with all of them
  $ mesh build ./app -- --release    arguments behind -- go to cargo, cmake, ninja or make
  $ mesh why src/main.cc             who compiled it, and why it was not known already
  $ mesh doctor                      what is missing on this machine, and how to fix it

Several nodes run on one machine when each has a --data-dir of its own.
Exit codes: the native tool's own for build and exec; 2 wrong usage; 3 no node is running.
`;

export const join: string =
  "Runs a node in the foreground until Ctrl-C. Without an invite it returns to the mesh it was in, " +
  "or starts a new one. Addresses are HOST:PORT or multiaddrs.";

export const joinExamples: string = `
Examples:
  $ mesh-node join                           first machine: prints an invite
  $ mesh-node join mesh1-…                   every other machine
  $ mesh-node join --slots 4 --name attic    lend four slots only
  $ mesh-node join --listen 0.0.0.0:4001     a fixed port, for a firewall rule
  $ mesh-node join --listen 0.0.0.0:4001 --announce 203.0.113.5:4001
                                             behind a router that forwards the port
  $ mesh-node join --json | jq .             for scripts
`;

export const build: string =
  "Finds out how the folder is built (Cargo.toml, CMakeLists.txt, build.ninja, Makefile) and runs " +
  "that tool with its compilers handed to the mesh. Output, colours and exit code are the tool's " +
  "own. Without a running node it starts one for the duration. What was done before, here or on a " +
  "machine of the mesh, is not done again.";

export const buildExamples: string = `
Examples:
  $ mesh build                                        this folder
  $ mesh build ./app -- --release                     cargo build --release
  $ mesh build ./lib -- -DCMAKE_BUILD_TYPE=Release    -D, -G, -U go to CMake's configure step,
  $ mesh build ./lib -- --target install -- -k 0      the rest to cmake --build
  $ mesh build ./kernel -- defconfig all              make goals
  $ mesh build --jobs 64 --summary build.json
  $ mesh build --trace build.trace                    a timeline for ui.perfetto.dev
  $ mesh build --compare                              checks peers and the cache, byte for byte

CMake projects are configured into DIR/build, with Ninja where it is installed.
With --compare, the exit code is 1 when the tool's own is 0 and something came out differently.
`;

export const exec: string =
  "Runs any command with a PATH in which compilers lead to the mesh. MESH_JOBS in its environment " +
  "says how many compiles the mesh can take at once.";

export const execExamples: string = `
Examples:
  $ mesh exec -- make -C src
  $ mesh exec -- cargo test --no-run
  $ mesh exec -- sh -c './configure && make -j$MESH_JOBS'
  $ mesh exec -- g++ -O2 -c big.cc
`;

export const run: string =
  "Splits the input with the job's module, executes the chunks on whatever node is free, and " +
  "merges the results. The module is WebAssembly without imports that exports alloc, split, " +
  "execute and merge.";

export const runExamples: string = `
Examples:
  $ mesh run wordcount.json --input book.txt --output counts.txt
  $ cat logs/* | mesh run errors.json > errors.txt

A job file: {"module": "wordcount.wasm", "memoryMiB": 256, "timeoutMs": 30000}
`;

export const invite: string =
  "Prints one line that brings another machine into the mesh. Whoever has it can join, so send it " +
  "to nobody else.";

export const why: string =
  "Says who ran the newest compile of a file and how long each part of it took, why it ran on this " +
  "machine, why its result was not known from before (which input, argument or variable has changed " +
  "since the nearest earlier one), and why it was not kept. It needs no running node. Exit code 1 " +
  "when nothing fits.";

export const whyExamples: string = `
Examples:
  $ mesh why src/main.cc             as seen from here
  $ mesh why main.cc                 the last parts of a path are enough
  $ mesh why build/main.o            by what it wrote
  $ mesh why serde                   a crate
  $ mesh why --json src/main.cc | jq '.tasks[0].miss'
`;

export const cache: string =
  "stats: how much is kept, and how often it helped. verify: reads all of it again; what is damaged " +
  "goes to quarantine, and the exit code is 1. gc: frees what is over the bound, least recently used " +
  "first. Without a running node one is started for the question.";
