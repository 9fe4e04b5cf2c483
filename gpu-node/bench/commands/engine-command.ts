import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import type { Form } from '../engine/engine-contender.ts'
import { benchEngine } from '../engine/engine.ts'
import { RANDOM_SHAPES, randomConfig, writeRandomModel, type RandomShape } from '../models/random-model.ts'
import { magnitudeHalfMask } from '../models/magnitude-mask.ts'
import { buildNative } from '../../../infra/local/build-native.mjs'
import { addLlamaOptions, openLlama, type LlamaOptions } from '../engine/llama-option.ts'
import { writeRandomGguf } from '../models/random-gguf.ts'
import {
  count,
  counts,
  forms,
  FORMS_HELP,
  KERNELS_HELP,
  list,
  openBenchModel,
  someOf,
  type Workbench,
} from './workbench.ts'
import { makeFolder } from '@copal/gpu-node/platform/make-folder.ts'

const MODELS = ['smollm2', ...(Object.keys(RANDOM_SHAPES) as RandomShape[])] as const

interface EngineOptions extends LlamaOptions {
  models: (typeof MODELS)[number][]
  precision: Form[]
  kernels: string[]
  batch: number[]
  prompt: number[]
  steps: number
  repetitions: number
  minutes: number
  blocks: number
}

/** Adds the benchmark of the sparse engine. */
export function addEngine(program: Command, { home, threads, print }: Workbench): void {
  const command = program
    .command('engine')
    .description('decode and prefill of the sparse engine, dense and half pruned, compared with ONNX Runtime')
    .option(
      '--models <names>',
      `any of ${MODELS.join(', ')}; all but the first have random weights`,
      someOf(MODELS),
      ['smollm2'],
    )
    .option('--precision <precisions>', FORMS_HELP, forms, ['bf16', 'int8', 'int4'])
    .option('--kernels <names>', KERNELS_HELP, list, [])
    .option('--batch <sizes>', 'numbers of concurrent streams', counts, [1, 8, 32])
    .option('--prompt <lengths>', 'tokens per prefill', counts, [128, 512])
    .option('--steps <n>', 'tokens to decode', count, 16)
    .option('--repetitions <n>', 'number of interleaved repetitions', count, 5)
    .option('--minutes <n>', 'maximum time per model', count, 10)
    .option('--blocks <n>', 'blocks of a random model', count, 2)
  addLlamaOptions(command).action(async (options: EngineOptions) => {
    await buildNative(print)
    const workDir = join(home, 'work')
    makeFolder(workDir)
    const common = {
      workDir,
      threads,
      forms: options.precision,
      kernels: options.kernels,
      batches: options.batch,
      prompts: options.prompt,
      decodeSteps: options.steps,
      repetitions: options.repetitions,
      timeLimitMs: options.minutes * 60_000,
      print,
    }
    const llama = openLlama(options)
    const model = await openBenchModel()
    for (const name of options.models) {
      if (name === 'smollm2') {
        const maskPath = join(home, 'mask.safetensors')
        writeFileSync(maskPath, await magnitudeHalfMask(model))
        print(`\n${model.id}, ${threads} threads; the mask keeps the larger half of every row`)
        await benchEngine({ ...common, model, maskPath, llama })
        continue
      }
      const config = randomConfig(name, options.blocks)
      const dir = mkdtempSync(join(home, 'random-'))
      const { master, maskPath } = await writeRandomModel(dir, config)
      print(
        `\nLLaMA ${name} with ${config.layers} of ${RANDOM_SHAPES[name].wholeLayers} layers, seeded random weights, ${threads} threads; the mask keeps half of every eight weights`,
      )
      const ggufPath = join(dir, 'random.gguf')
      if (llama) await writeRandomGguf(ggufPath, config, master)
      await benchEngine({
        ...common,
        model: { ...model, id: name, config, master },
        maskPath,
        llama: llama && { ...llama, ggufPath },
      })
      rmSync(dir, { recursive: true, force: true })
    }
    await llama?.cpp.close()
  })
}
