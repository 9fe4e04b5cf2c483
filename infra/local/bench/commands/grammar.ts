import type { Command } from 'commander'
import { benchGrammar } from '../../../../gpu-node/bench/grammar.ts'
import { loadNative } from '../../../../gpu-node/src/backends/sparse/native.ts'
import { buildNative } from '../../build-native.mjs'
import { count, openBenchModel, type Workbench } from '../workbench.ts'

export function addGrammar(program: Command, { print, printAll }: Workbench): void {
  program
    .command('grammar')
    .description("compiling grammars, and a mask of each token, on the model's vocabulary")
    .option('--repetitions <n>', 'of everything, in turn', count, 5)
    .action(async ({ repetitions }: { repetitions: number }) => {
      const model = await openBenchModel()
      await buildNative(print)
      printAll(await benchGrammar(loadNative(), model, repetitions))
    })
}
