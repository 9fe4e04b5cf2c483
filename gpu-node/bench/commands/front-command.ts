import { readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { Command } from 'commander'
import { FORMS, type Form } from '../engine/engine-contender.ts'
import { frontPlots, frontTable, LLAMA_KINDS, measureFront } from '../pruning/front.ts'
import { machineLine } from '../measurement/report.ts'
import { cutEvaluationWindows } from '@copal/lab/texts/evaluation-windows.ts'
import { buildNative } from '../../../infra/local/build-native.mjs'
import { addLlamaOptions, openLlama, type LlamaOptions } from '../engine/llama-option.ts'
import { count, forms, FORMS_HELP, list, openBenchModel, type Workbench } from './workbench.ts'
import { makeFolder } from '@copal/gpu-node/platform/make-folder.ts'

interface FrontOptions extends LlamaOptions {
  masks: string[]
  texts: string[]
  out: string
  precision: Form[]
  windows: number
  length: number
  steps: number
  repetitions: number
}

/** Adds the benchmark of bytes, speed and perplexity of a model in every precision. */
export function addFront(program: Command, { home, threads, print }: Workbench): void {
  const command = program
    .command('front')
    .description(
      'bytes, speed and perplexity of the model in every precision, dense and pruned, as a table and plots',
    )
    .requiredOption('--masks <files>', 'mask files of several ratios: a.safetensors,b.safetensors', list)
    .requiredOption('--texts <files>', 'files of held-out text', list)
    .requiredOption('--out <folder>', 'folder for the table and the plots')
    .option('--precision <precisions>', FORMS_HELP, forms, Object.keys(FORMS))
    .option('--windows <n>', 'evaluation windows per text', count, 4)
    .option('--length <n>', 'tokens per window', count, 1024)
    .option('--steps <n>', 'tokens to decode', count, 16)
    .option('--repetitions <n>', 'number of interleaved repetitions', count, 5)
  addLlamaOptions(command).action(async (options: FrontOptions) => {
    await buildNative(print)
    const model = await openBenchModel()
    const windows = options.texts.flatMap((path) => {
      const text = readFileSync(path, 'utf8')
      return cutEvaluationWindows([text], model.codec, options.length, options.windows).windows
    })
    const workDir = join(home, 'work')
    makeFolder(workDir)
    const llama = openLlama(options)
    const points = await measureFront({
      model,
      masks: options.masks.map((path) => ({ path, label: basename(path, '.safetensors') })),
      forms: options.precision,
      windows,
      llama: llama && { ...llama, kinds: LLAMA_KINDS },
      workDir,
      threads,
      context: 128,
      decodeSteps: options.steps,
      repetitions: options.repetitions,
      print,
    })
    await llama?.cpp.close()
    const tokens = windows.reduce((sum, { length }) => sum + length - 1, 0)
    const about = `${machineLine()}\n${model.id}, decode of one stream at context 128; perplexity over ${tokens} tokens`
    const table = frontTable(points)
    print(`\n${about}\n${table}`)
    makeFolder(options.out)
    writeFileSync(join(options.out, 'front.md'), `${about.replace('\n', '  \n')}\n\n${table}`)
    writeFileSync(join(options.out, 'front.json'), `${JSON.stringify({ about, points }, null, 2)}\n`)
    for (const [name, svg] of Object.entries(await frontPlots(points, `Where pruning pays: ${model.id}`))) {
      writeFileSync(join(options.out, name), svg)
    }
  })
}
