import { describe, expect, test } from "vitest";
import { parseDryRun, shellWords } from "./nvcc-dryrun.ts";
import { readGraph } from "./nvcc-graph.ts";

/** What nvcc prints for one architecture, shortened. */
const setting = "#$ CICC_PATH=/cuda/nvvm/bin\n#$ PATH=/cuda/bin:/usr/bin\n";
const t = (name: string): string => `"/tmp/tmpxft_00000b10_00000000-${name}"`;
const ptxas = `#$ ptxas -arch=sm_80 -m64  ${t("6_x.ptx")}  -o ${t("8_x.sm_80.cubin")} `;
const lines = [
  `#$ gcc -E -x c++ "x.cu" -o ${t("5_x.cpp4.ii")} `,
  `#$ cudafe++ --orig_src_path_name "/p/x.cu" --gen_c_file_name ${t("6_x.cudafe1.cpp")} --stub_file_name "tmpxft_00000b10_00000000-6_x.cudafe1.stub.c" --gen_module_id_file --module_id_file_name ${t("4_x.module_id")} ${t("5_x.cpp4.ii")} `,
  `#$ gcc -D__CUDA_ARCH__=800 -E -x c++ "x.cu" -o ${t("7_x.cpp1.ii")} `,
  `#$ "$CICC_PATH/cicc" -arch compute_80 -m64 --include_file_name "tmpxft_00000b10_00000000-3_x.fatbin.c" --module_id_file_name ${t("4_x.module_id")} --gen_c_file_name ${t("6_x.cudafe1.c")} --stub_file_name ${t("6_x.cudafe1.stub.c")} --gen_device_file_name ${t("6_x.cudafe1.gpu")}  ${t("7_x.cpp1.ii")} -o ${t("6_x.ptx")}`,
  ptxas,
  `#$ fatbinary -64 --cicc-cmdline="-ftz=0 " "--image3=kind=elf,sm=80,file=/tmp/tmpxft_00000b10_00000000-8_x.sm_80.cubin" --embedded-fatbin="/tmp/tmpxft_00000b10_00000000-3_x.fatbin.c" `,
  "#$ rm /tmp/tmpxft_00000b10_00000000-3_x.fatbin",
  `#$ gcc -c -x c++ ${t("6_x.cudafe1.cpp")} -o "x.o" `,
];

function graphOf(...changed: readonly (readonly [string, string])[]) {
  let text = setting + lines.join("\n");
  for (const [from, to] of changed) {
    expect(text).toContain(from);
    text = text.replace(from, to);
  }
  const dry = parseDryRun(`${text}\n`);
  return dry && readGraph(dry.commands, "/s", "x.cu");
}

describe("a dry run", () => {
  test("is a graph of steps under lasting names", () => {
    const graph = graphOf();
    expect(graph?.object).toBe("x.o");
    expect(graph?.nodes.map(({ tool, inputs, outputs }) => [tool, inputs, outputs])).toEqual([
      ["host-preprocess", [], ["/s/host.ii"]],
      ["cudafe", ["/s/host.ii"], ["/s/tmpxft_00000001_00000000-6_x.cudafe1.cpp", "/s/module_id"]],
      ["host-preprocess", [], ["/s/compute_80.ii"]],
      ["cicc", ["/s/module_id", "/s/compute_80.ii"], ["/s/compute_80.stub.c", "/s/compute_80.ptx"]],
      ["ptxas", ["/s/compute_80.ptx"], ["/s/compute_80.sm_80.cubin"]],
      ["fatbin", ["/s/compute_80.sm_80.cubin"], ["/s/tmpxft_00000001_00000000-3_x.fatbin.c"]],
      ["host-compile", ["/s/tmpxft_00000001_00000000-6_x.cudafe1.cpp"], []],
    ]);
    expect([...(graph?.copies ?? [])]).toEqual([
      ["/s/tmpxft_00000001_00000000-6_x.cudafe1.stub.c", "/s/compute_80.stub.c"],
    ]);
  });

  test("keeps nvcc's own names where the assembler records its command line", () => {
    const graph = graphOf(["-m64  ", "-m64  -g "]);
    expect(graph?.nodes.find(({ tool }) => tool === "ptxas")?.outputs).toEqual([
      "/s/tmpxft_00000001_00000000-8_x.sm_80.cubin",
    ]);
  });

  test("keeps nvcc's warnings and where the dependency file is written", () => {
    const text = `nvcc warning : old\n${setting}${lines[0]}\n#$ -- Filter Dependencies -- > x.d\n`;
    expect(parseDryRun(text)).toMatchObject({
      notes: "nvcc warning : old\n",
      dependencies: { path: "x.d", after: 1 },
    });
  });

  test.each([
    ["a program nobody knows writes to a step's file", "#$ ptxas", "#$ other"],
    ["a file is passed on to a tool", "-m64  ", "-m64 --options-file=/x "],
    ["an output goes elsewhere", "-m64  ", "-m64 -o other "],
    [
      "a step reads what no step wrote",
      '"/tmp/tmpxft_00000b10_00000000-7_x.cpp1.ii" -o',
      '"/y.ii" -o',
    ],
    ["the host compiler writes more than one file", "-c -x c++", "-c -MD -x c++"],
    ["two sources are compiled", '"x.cu" -o', '"y.cu" -o'],
    ["a shell would expand something", "-ftz=0 ", "-ftz=$X "],
    ["a line is no command", "#$ fatbinary", "fatbinary"],
  ])("is not understood when %s", (_, from, to) => {
    expect(graphOf([from, to])).toBeUndefined();
  });
});

describe("words of a shell", () => {
  test.each([
    ['a  "b c" d\\ e', ["a", "b c", "d e"]],
    ['-D "A=\\"x y\\"" -D "G=f,g"', ["-D", 'A="x y"', "-D", "G=f,g"]],
    ["'-DX=$y' '\"'", ["-DX=$y", '"']],
    ['"$CICC_PATH/cicc" x', ["/c/cicc", "x"]],
    ['"a;b|c" ""', ["a;b|c", ""]],
    ['"\\n\\$"', ["\\n$"]],
  ])("%s", (line, words) => {
    expect(shellWords(line, new Map([["CICC_PATH", "/c"]]))).toEqual(words);
  });

  test.each([
    "a; b",
    "a > b",
    "a $B",
    'a "$B"',
    "a `b`",
    'a "`b`"',
    "a *",
    "~/x",
    "# x",
    'a "b',
    "a 'b",
    "a\\",
  ])("%s is more than words", (line) => {
    expect(shellWords(line, new Map())).toBeUndefined();
  });
});
