import { expect, test } from 'vitest'
import { createBenchProgram } from '../../../gpu-node/bench/program.ts'

test.each([
  [['engin'], /unknown command 'engin'\n\(Did you mean engine\?\)/],
  [
    ['engine', '--precision', 'bf16,fp8'],
    /'--precision <precisions>' .*'bf16,fp8'.* Expected some of bf16, int8, int8\/int4, int4, int4\/int4\./,
  ],
  [['engine', '--masks', 'a'], /unknown option '--masks'/],
  [['kernels', '--only', 'smolm2'], /Expected some of smollm2, 1b, 7b-attention, 7b-mlp\./],
  [['swaps', '--streams', '0'], /'--streams <n>' .*'0'.* A whole number of at least 1 is expected\./],
  [['gpu', '--sets', 'dense,70%'], /Expected some of dense, 50%, 60%, int8, int4, int4-50%\./],
  [['gpu', '--bandwidth', 'fast'], /A number above 0 is expected\./],
  [['contexts', '--contexts', '1k'], /'--contexts <numbers>' .*A whole number of at least 1 is expected\./],
  [['memory', '--method', 'wnada'], /There is no pruning method 'wnada'\. Did you mean 'wanda'\?/],
  [['memory', '--method', 'magnitude'], /'magnitude' reads no text, so it has no calibration to measure\./],
  [['gateway', '--rounds', '1.5'], /A whole number of at least 1 is expected\./],
  [['gateway', '--seconds', 'ten'], /A number above 0 is expected\./],
  [['front', '--texts', 'a', '--out', 'b'], /required option '--masks <files>' not specified/],
])('%j is refused before anything is measured, and it says why', async (args, expected) => {
  const { output, measured } = await run(args)
  expect(output).toMatch(expected)
  expect(measured).toEqual([])
})

test('help lists every benchmark with what it measures', async () => {
  const { output } = await run(['--help'])
  for (const name of [
    'service',
    'engine',
    'kernels',
    'gpu',
    'swaps',
    'scoring',
    'drafts',
    'contexts',
    'telemetry',
    'front',
    'ratio',
    'memory',
    'grammar',
    'gateway',
    'neighbours',
  ])
    expect(output).toMatch(new RegExp(`^ {2}${name} .*\\w`, 'm'))
})

/** Runs a command line that is rejected or asks for help; `measured` is the output of benchmarks. */
async function run(args: readonly string[]): Promise<{ output: string; measured: string[] }> {
  const measured: string[] = []
  const print = (text: string) => void measured.push(text)
  const program = createBenchProgram({ home: '/nowhere', threads: 1, print, printAll: () => {} })
  let output = ''
  const listen = {
    writeOut: (text: string) => (output += text),
    writeErr: (text: string) => (output += text),
  }
  for (const command of [program, ...program.commands]) command.configureOutput(listen)
  await expect(program.parseAsync(args, { from: 'user' })).rejects.toSatisfy((error: { code: string }) =>
    error.code.startsWith('commander.'),
  )
  return { output, measured }
}
