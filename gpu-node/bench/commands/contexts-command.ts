import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { buildNative } from '../../../infra/local/build-native.mjs'
import { benchContexts } from '../engine/contexts.ts'
import type { Form } from '../engine/engine-contender.ts'
import { magnitudeHalfMask } from '../models/magnitude-mask.ts'
import { count, counts, forms, FORMS_HELP, openBenchModel, type Workbench } from './workbench.ts'

/** Options of the benchmark, as the command line gives them. */
interface ContextsOptions {
  precision: Form[]
  streams: number[]
  contexts: number[]
  rounds: number
  text?: string
}

/** Adds the benchmark of keys and values at long contexts. */
export function addContexts(program: Command, { home, print, printAll }: Workbench): void {
  program
    .command('contexts')
    .description(
      'what keys and values in int8 gain at long contexts and cost in perplexity, beside f16 in turn',
    )
    .option('--precision <precisions>', FORMS_HELP, forms, ['bf16'])
    .option('--streams <numbers>', 'sequences that decode at once', counts, [1, 8])
    .option('--contexts <numbers>', 'tokens before those that are decoded', counts, [128, 1024, 2048])
    .option('--rounds <n>', 'rounds of each', count, 5)
    .option('--text <file>', 'text whose perplexity is measured')
    .action(async ({ precision, streams, contexts, rounds, text: file }: ContextsOptions) => {
      const text = file === undefined ? undefined : readFileSync(file, 'utf8')
      const model = await openBenchModel()
      const maskPath = join(home, 'mask.safetensors')
      writeFileSync(maskPath, await magnitudeHalfMask(model))
      await buildNative(print)
      for (const form of precision) {
        print(`\n${form}`)
        printAll(await benchContexts({ model, maskPath, form, streams, contexts, rounds, text }))
      }
    })
}
