import type { Command } from 'commander'
import { benchGrammar } from '../serving/grammar.ts'
import { loadNative } from '@copal/gpu-node/platform/native-addon.ts'
import { buildNative } from '../../../infra/local/build-native.mjs'
import { count, openBenchModel, type Workbench } from './workbench.ts'

/** Adds the benchmark of grammars. */
export function addGrammar(program: Command, { print, printAll }: Workbench): void {
  program
    .command('grammar')
    .description("compiling grammars and computing token masks for the model's vocabulary")
    .option('--repetitions <n>', 'number of interleaved repetitions', count, 5)
    .action(async ({ repetitions }: { repetitions: number }) => {
      const model = await openBenchModel()
      await buildNative(print)
      printAll(await benchGrammar(loadNative(), model, repetitions))
    })
}
