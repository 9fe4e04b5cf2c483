import { mkdtempSync, rmSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import type { GpuAddon, GpuDevice } from '@copal/gpu-node/gpu/addon.d.ts'
import type { LlamaConfig } from '@copal/gpu-node/model/config/llama-config.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { loadGpu } from '@copal/gpu-node/platform/gpu-addon.ts'
import { loadNativeIfThere } from '@copal/gpu-node/platform/native-addon.ts'
import { findDevice, freeDeviceMemory } from '@copal/gpu-node/serving/backends/backend-resources.ts'
import { buildGpu } from '../../../infra/local/build-gpu.mjs'
import { buildNative } from '../../../infra/local/build-native.mjs'
import { hasGpuDriver } from '../engine/gpu-driver.ts'
import { benchGpu } from '../engine/gpu.ts'
import { GPU_SET_NAMES, GPU_SETS, layersThatFit, type GpuSet } from '../engine/gpu-sets.ts'
import {
  RANDOM_SHAPES,
  randomConfig,
  writeRandomMask,
  writeRandomMaster,
  type RandomShape,
} from '../models/random-model.ts'
import { count, counts, openBenchModel, positive, someOf, type Workbench } from './workbench.ts'

const MODELS = ['smollm2', ...(Object.keys(RANDOM_SHAPES) as RandomShape[])] as const

interface GpuOptions {
  models?: (typeof MODELS)[number][]
  sets: GpuSet[]
  streams: number[]
  context: number
  steps: number
  repetitions: number
  minutes: number
  blocks?: number
  bandwidth?: number
  device?: string
}

/** Adds the benchmark of a GPU. */
export function addGpu(program: Command, bench: Workbench): void {
  program
    .command('gpu')
    .description('decode on a GPU, dense and pruned, compared with the bandwidth of its memory')
    .option(
      '--models <names>',
      `any of ${MODELS.join(', ')}; all but the first have random weights (default: all; none with a software driver)`,
      someOf(MODELS),
    )
    .option(
      '--sets <names>',
      `any of ${GPU_SET_NAMES.join(', ')}; 50% and 60% are bf16`,
      someOf(GPU_SET_NAMES),
      GPU_SET_NAMES,
    )
    .option('--streams <sizes>', 'numbers of concurrent streams', counts, [1, 4, 16, 64])
    .option(
      '--context <n>',
      'tokens of a stream before decoding; attention costs the same in all sets, and takes spans of 512',
      count,
      32,
    )
    .option('--steps <n>', 'tokens to decode', count, 32)
    .option('--repetitions <n>', 'number of interleaved repetitions', count, 5)
    .option('--minutes <n>', 'maximum time per model', count, 10)
    .option('--blocks <n>', 'blocks of a random model (default: as many as fit)', count)
    .option('--bandwidth <GB/s>', "of the device's memory, from its data sheet, to compare with", positive)
    .option('--device <name>', 'a part of its name (default: the best device)')
    .action(async (options: GpuOptions) => {
      const found = await findGpu(bench.print)
      if ('addon' in found) await benchDevice(found.addon, options, bench)
      else bench.print(`There is no GPU to measure: ${found.missing}.`)
    })
}

async function findGpu(print: Workbench['print']): Promise<{ addon: GpuAddon } | { missing: string }> {
  if (process.platform === 'linux' && !hasGpuDriver(process.env))
    return { missing: 'neither a driver of NVIDIA nor one of Vulkan is installed' }
  await buildNative(print)
  if ((await buildGpu(print)) === 'no-cargo')
    return { missing: 'the GPU addon is not built, which needs cargo' }
  const addon = loadGpu()
  const devices = await addon.devices()
  return devices.length > 0 ? { addon } : { missing: 'no driver of this machine offers a device' }
}

async function benchDevice(addon: GpuAddon, options: GpuOptions, bench: Workbench): Promise<void> {
  const { print } = bench
  const device = findDevice(await addon.devices(), options.device ?? null, '--device')
  const deviceBytes = freeDeviceMemory(device)
  print(describeDevice(device, deviceBytes))
  const isSoftware = device.kind === 'software'
  if (isSoftware) {
    print('It is a software driver, which runs on the processor: its figures say nothing about a GPU.')
    if (!options.models) return print('To run the benchmark all the same, slowly, name models with --models.')
  }
  const model = await openBenchModel()
  for (const name of options.models ?? MODELS) {
    const dir = mkdtempSync(join(bench.home, 'gpu-'))
    const limits = { deviceBytes, diskBytes: await freeDisk(dir) }
    const opened = name === 'smollm2' ? model : await randomModel(model, name, dir, limits, options, print)
    if (opened) {
      if (name === 'smollm2') print(`\n${model.id}; the masks are random`)
      await benchGpu({
        ...options,
        addon,
        native: loadNativeIfThere(),
        model: opened,
        maskPaths: await writeMasks(dir, opened, options.sets),
        timeLimitMs: options.minutes * 60_000,
        print,
      })
    }
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Writes a model of random weights with as many blocks as fit; undefined if not even one does. */
async function randomModel(
  model: DenseModel,
  name: RandomShape,
  dir: string,
  limits: { deviceBytes: number; diskBytes: number },
  { sets, blocks }: GpuOptions,
  print: Workbench['print'],
): Promise<DenseModel | undefined> {
  const whole = randomConfig(name, Infinity)
  const layers = blocks ?? layersThatFit(whole, sets, limits)
  if (layers === 0) {
    print(`\nLLaMA ${name}: not even one block fits the memory of the device and the disk.`)
    return undefined
  }
  const config: LlamaConfig = randomConfig(name, layers)
  print(`\nLLaMA ${name} with ${config.layers} of ${whole.layers} layers, seeded random weights and masks`)
  return { ...model, id: name, config, master: await writeRandomMaster(join(dir, 'master'), config) }
}

async function writeMasks(
  dir: string,
  model: DenseModel,
  sets: readonly GpuSet[],
): Promise<Map<number, string>> {
  const paths = new Map<number, string>()
  for (const set of sets) {
    const { ratio } = GPU_SETS[set]
    if (ratio === null) continue
    const path = join(dir, `mask-${ratio}.safetensors`)
    await writeRandomMask(path, model, ratio)
    paths.set(ratio, path)
  }
  return paths
}

async function freeDisk(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir)
  return bavail * bsize
}

function describeDevice({ name, kind, api, driver }: GpuDevice, bytes: number): string {
  return `${name}: ${kind}, ${api}, driver ${driver}, ${(bytes / 1e9).toFixed(1)} GB of memory`
}
