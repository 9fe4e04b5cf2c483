/**
 * `npm run bench`: what the ONNX backend, calibration, a swap and the gateway cost on this machine.
 * Everything that is compared is interleaved; every figure is `median (min–max, n)`.
 *
 * `npm run bench -- ratio`: calibration in dense forward passes over the same tokens; `--samples 16 --length 2048
 * --blocks 2 --windows 1 --repetitions 5` unless given.
 * `npm run bench -- memory`: peak memory of calibrating blocks of the 7B model's shape (8 GB of disk, minutes);
 * `--hidden 4096 --blocks 3 --samples 2 --length 64` unless given.
 * `npm run bench -- alps --statistics <folder of a laboratory>`: the output error that ALPS leaves, by that of what the
 * product does; `--pattern 0.5,0.6,0.7,2:4 --layers 0,7,15,22,29 --scope row` unless given; `--scope row,matrix` for both.
 * `npm run bench -- grammar`: compiling grammars and a mask of each token, on the model's vocabulary; `--repetitions 5`.
 * `npm run bench -- engine`: the sparse engine, dense and half pruned, beside ONNX; `--models smollm2 --precision
 * bf16,int8,int4 --batch 1,8 --prompt 128,512 --steps 16 --repetitions 5 --minutes 10` unless given, minutes a model.
 * `--models smollm2,1.1b,7b --blocks 2` takes LLaMA shapes of seeded random weights, cut to so many blocks. With `--llama
 * <a Python that has the package llama-cpp-python> --gguf <the model's file>` llama.cpp runs beside them.
 * `npm run bench -- front --masks 0.3.safetensors,0.5.safetensors --texts held-out.txt --out <folder>`: bytes, speed and
 * perplexity of every form of the model, as a table and plots; `--precision bf16,int8,int4 --windows 4 --length 1024
 * --steps 16 --repetitions 5` unless given, `--llama` and `--gguf` as above.
 * `npm run bench -- swaps`: how long streams of the sparse engine wait for a token while masks are swapped under them;
 * `--streams 4 --swaps 5` unless given.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, homedir, tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { MaskScope } from '@copal/shared/mask/pattern.ts'
import { benchCalibrationRatio } from '../../gpu-node/bench/calibration-ratio.ts'
import { benchCalibration } from '../../gpu-node/bench/calibration.ts'
import { benchEngine } from '../../gpu-node/bench/engine.ts'
import { benchGrammar } from '../../gpu-node/bench/grammar.ts'
import { frontPlots, frontTable, LLAMA_KINDS, measureFront } from '../../gpu-node/bench/front.ts'
import { benchJointSolver } from '../../gpu-node/bench/joint-solver.ts'
import { startLlamaCpp, type LlamaCpp } from '../../gpu-node/bench/llama-cpp/llama-cpp.ts'
import {
  RANDOM_SHAPES,
  randomConfig,
  writeRandomModel,
  type RandomShape,
} from '../../gpu-node/bench/random-model.ts'
import { benchRefinements } from '../../gpu-node/bench/refinements.ts'
import { formatSpread, line, machineLine, spread } from '../../gpu-node/bench/report.ts'
import { benchServing } from '../../gpu-node/bench/serving.ts'
import type { Precision } from '../../gpu-node/native/addon.d.ts'
import { createOnnxBackend } from '../../gpu-node/src/backends/onnx/backend.ts'
import { loadNative } from '../../gpu-node/src/backends/sparse/native.ts'
import { listArtifacts } from '../../gpu-node/src/copal/artifact.ts'
import { cutEvaluationWindows } from '../../gpu-node/src/lab/evaluation-windows.ts'
import { findStatistics } from '../../gpu-node/src/lab/find-statistics.ts'
import { openModel } from '../../gpu-node/src/model/load.ts'
import { DEFAULT_MODEL } from '../../gpu-node/src/model/source.ts'
import { largeConfig } from '../../test/support/large-llama.ts'
import { magnitudeHalfMask } from '../../test/support/magnitude-mask.ts'
import { measurePeakMemory } from '../../test/support/peak-memory.ts'
import { benchGatewayOverhead, readTarget } from './bench/gateway-overhead.ts'
import { benchSwapGaps } from './bench/swap-gaps.ts'
import { buildNative } from './build-native.mjs'
import { freePort } from './ports.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const REPETITIONS = 5
const LOADS = 3
const PAIRS = 60

const home = mkdtempSync(join(tmpdir(), 'copal-bench-'))
const { positionals, values: flags } = parseArgs({
  allowPositionals: true,
  options: Object.fromEntries(
    [
      'samples',
      'length',
      'blocks',
      'windows',
      'repetitions',
      'hidden',
      'statistics',
      'pattern',
      'layers',
      'scope',
      'models',
      'precision',
      'batch',
      'prompt',
      'steps',
      'minutes',
      'streams',
      'swaps',
      'llama',
      'gguf',
      'masks',
      'texts',
      'out',
    ].map((name) => [name, { type: 'string' }] as const),
  ),
})
try {
  print(machineLine())
  const [part] = positionals
  if (part === 'ratio') await benchRatio()
  else if (part === 'memory') await benchMemory()
  else if (part === 'alps') await benchAlps()
  else if (part === 'engine') await benchForward()
  else if (part === 'grammar') await benchMasks()
  else if (part === 'swaps') await benchSwaps()
  else if (part === 'front') await benchFront()
  else {
    await benchNode()
    await benchGateway()
  }
} finally {
  rmSync(home, { recursive: true, force: true })
}

/** The backend and calibration, without a server. */
async function benchNode(): Promise<void> {
  const cacheDir = process.env.COPAL_CACHE || join(homedir(), '.cache', 'copal')
  const spec = process.env.COPAL_MODEL || DEFAULT_MODEL
  const model = await openModel(spec, { cacheDir })
  const { hiddenSize, layers, vocabSize } = model.config
  print(
    `${model.id}: ${layers} layers, hidden ${hiddenSize}, vocabulary ${vocabSize}; f32, ${availableParallelism()} threads\n`,
  )

  const reference = { spec, cacheDir, id: model.id, baseSha256: model.master.baseSha256 }
  const text = readFileSync(join(ROOT, 'infra', 'local', 'texts', 'general.txt'), 'utf8')
  const { lines, maskPath } = await benchCalibration(reference, text, join(home, 'calibration'), {
    samples: 16,
    length: 512,
  })
  lines.forEach(print)
  const artifacts = await listArtifacts(join(home, 'calibration', 'statistics'), model.master.baseSha256)
  const threads = availableParallelism()
  ;(await benchRefinements(model, artifacts, { threads, tolerances: [1e-1, 1e-2, 1e-3] })).forEach(print)

  const backend = createOnnxBackend({ workDir: join(home, 'work') })
  const masked = { model, version: 1, maskPath, priority: 'serving' } as const
  const loadMs: number[] = []
  for (let load = 0; load < LOADS; load++) {
    const startedMs = performance.now()
    const weights = await backend.load(masked)
    loadMs.push(performance.now() - startedMs)
    await backend.release(weights)
  }
  print(line('swap: mask file → verified, loaded, canary', formatSpread(spread(loadMs), 'ms', 0)))

  const dense = await backend.load({ model, version: 0, maskPath: null, priority: 'serving' })
  const pruned = await backend.load(masked)
  const sets = [
    { name: 'dense', backend, weights: dense },
    { name: '50 % mask', backend, weights: pruned },
  ]
  ;(await benchServing(sets, REPETITIONS)).forEach(print)
  await Promise.all([backend.release(dense), backend.release(pruned)])
}

async function benchRatio(): Promise<void> {
  const cacheDir = process.env.COPAL_CACHE || join(homedir(), '.cache', 'copal')
  const model = await openModel(process.env.COPAL_MODEL || DEFAULT_MODEL, { cacheDir })
  const backend = createOnnxBackend({ workDir: join(home, 'work') })
  const weights = await backend.load({ model, version: 0, maskPath: null, priority: 'background' })
  const sizes = {
    samples: flag('samples', 16),
    length: flag('length', 2048),
    blocks: flag('blocks', 2),
    windows: flag('windows', 1),
    repetitions: flag('repetitions', REPETITIONS),
    threads: availableParallelism(),
  }
  ;(await benchCalibrationRatio(model, { backend, weights }, sizes)).forEach(print)
  await backend.release(weights)
}

async function benchForward(): Promise<void> {
  const cacheDir = process.env.COPAL_CACHE || join(homedir(), '.cache', 'copal')
  const numbers = (text: string) => text.split(',').map(Number)
  const threads = availableParallelism()
  const options = {
    workDir: join(home, 'work'),
    threads,
    precisions: (flags.precision ?? 'bf16,int8,int4').split(',') as Precision[],
    batches: numbers(flags.batch ?? '1,8'),
    prompts: numbers(flags.prompt ?? '128,512'),
    decodeSteps: flag('steps', 16),
    repetitions: flag('repetitions', REPETITIONS),
    mostMs: flag('minutes', 10) * 60_000,
    print,
  }
  await buildNative(print)
  mkdirSync(options.workDir, { recursive: true })
  const llama = openLlama()
  const model = await openModel(process.env.COPAL_MODEL || DEFAULT_MODEL, { cacheDir })
  for (const name of (flags.models ?? 'smollm2').split(',')) {
    if (name === 'smollm2') {
      const maskPath = join(home, 'mask.safetensors')
      writeFileSync(maskPath, await magnitudeHalfMask(model))
      print(`\n${model.id}, ${threads} threads; masked: the larger half of every row`)
      await benchEngine({ ...options, model, maskPath, llama })
      continue
    }
    if (!isShape(name)) {
      const known = ['smollm2', ...Object.keys(RANDOM_SHAPES)].join(', ')
      throw new Error(`--models: '${name}' is unknown; there are ${known}`)
    }
    const config = randomConfig(name, flag('blocks', 2))
    const dir = mkdtempSync(join(home, 'random-'))
    const { master, maskPath } = await writeRandomModel(dir, config)
    print(
      `\nLLaMA ${name} with ${config.layers} of ${RANDOM_SHAPES[name].wholeLayers} layers, seeded random weights, ${threads} threads; masked: half of every eight weights`,
    )
    await benchEngine({ ...options, model: { ...model, id: name, config, master }, maskPath, llama: null })
    rmSync(dir, { recursive: true, force: true })
  }
  await llama?.cpp.close()
}

/** llama.cpp where the flags name a Python that has it and the model's GGUF file; null where they name neither. */
function openLlama(): { cpp: LlamaCpp; ggufPath: string } | null {
  const { llama: python, gguf } = flags
  if (python === undefined && gguf === undefined) return null
  if (python === undefined || gguf === undefined) {
    throw new Error(
      '--llama names a Python with the package llama-cpp-python, and --gguf a file of the same model; give both',
    )
  }
  return { cpp: startLlamaCpp(python), ggufPath: resolve(gguf) }
}

/** Where pruning pays: bytes, speed and perplexity of every form of the model, with `--masks` of several ratios. */
async function benchFront(): Promise<void> {
  const cacheDir = process.env.COPAL_CACHE || join(homedir(), '.cache', 'copal')
  const { masks, texts, out } = flags
  if (masks === undefined || texts === undefined || out === undefined) {
    throw new Error(
      'front needs --masks a.safetensors,b.safetensors, --texts held-out.txt,… and --out, a folder for table and plots',
    )
  }
  await buildNative(print)
  const model = await openModel(process.env.COPAL_MODEL || DEFAULT_MODEL, { cacheDir })
  const windowTokens = flag('length', 1024)
  const windows = texts.split(',').flatMap((path) => {
    const text = readFileSync(path, 'utf8')
    return cutEvaluationWindows([text], model.codec, windowTokens, flag('windows', 4)).windows
  })
  const workDir = join(home, 'work')
  mkdirSync(workDir, { recursive: true })
  const llama = openLlama()
  const points = await measureFront({
    model,
    masks: masks.split(',').map((path) => ({ path, label: basename(path, '.safetensors') })),
    precisions: (flags.precision ?? 'bf16,int8,int4').split(',') as Precision[],
    windows,
    llama: llama && { ...llama, kinds: LLAMA_KINDS },
    workDir,
    threads: availableParallelism(),
    context: 128,
    decodeSteps: flag('steps', 16),
    repetitions: flag('repetitions', REPETITIONS),
    print,
  })
  await llama?.cpp.close()
  const tokens = windows.reduce((sum, { length }) => sum + length - 1, 0)
  const about = `${machineLine()}\n${model.id}, decode of one stream at context 128; perplexity over ${tokens} tokens`
  const table = frontTable(points)
  print(`\n${about}\n${table}`)
  mkdirSync(out, { recursive: true })
  writeFileSync(join(out, 'front.md'), `${about.replace('\n', '  \n')}\n\n${table}`)
  writeFileSync(join(out, 'front.json'), `${JSON.stringify({ about, points }, null, 2)}\n`)
  for (const [name, svg] of Object.entries(await frontPlots(points, `Where pruning pays: ${model.id}`))) {
    writeFileSync(join(out, name), svg)
  }
}

function isShape(name: string): name is RandomShape {
  return name in RANDOM_SHAPES
}

async function benchMasks(): Promise<void> {
  const cacheDir = process.env.COPAL_CACHE || join(homedir(), '.cache', 'copal')
  const model = await openModel(process.env.COPAL_MODEL || DEFAULT_MODEL, { cacheDir })
  await buildNative(print)
  ;(await benchGrammar(loadNative(), model, flag('repetitions', REPETITIONS))).forEach(print)
}

async function benchSwaps(): Promise<void> {
  const cacheDir = process.env.COPAL_CACHE || join(homedir(), '.cache', 'copal')
  const model = await openModel(process.env.COPAL_MODEL || DEFAULT_MODEL, { cacheDir })
  const maskPath = join(home, 'mask.safetensors')
  writeFileSync(maskPath, await magnitudeHalfMask(model))
  await buildNative(print)
  const options = { model, maskPath, streams: flag('streams', 4), swaps: flag('swaps', 5), lullMs: 2000 }
  ;(await benchSwapGaps(options)).forEach(print)
}

async function benchMemory(): Promise<void> {
  const config = largeConfig(flag('hidden', 4096), flag('blocks', 3))
  const samples = flag('samples', 2)
  const length = flag('length', 64)
  const threads = availableParallelism()
  const peaks = await measurePeakMemory(home, config, { samples, length, threads, method: 'copal' })
  const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`
  const { hiddenSize, intermediateSize, layers } = config
  print(
    `hidden ${hiddenSize}, intermediate ${intermediateSize}, ${layers} blocks, ${samples} × ${length} tokens`,
  )
  for (const phase of ['open', 'calibrate', 'select'] as const) {
    print(
      line(
        `peak memory, ${phase}`,
        `${megabytes(peaks[`${phase}Bytes`])} in ${peaks.seconds[phase].toFixed(0)} s`,
      ),
    )
  }
}

async function benchAlps(): Promise<void> {
  if (flags.statistics === undefined)
    throw new Error('--statistics: the folder of a laboratory, or the home of a service, is expected')
  const cacheDir = process.env.COPAL_CACHE || join(homedir(), '.cache', 'copal')
  const model = await openModel(process.env.COPAL_MODEL || DEFAULT_MODEL, { cacheDir })
  const { artifacts, domains } = await findStatistics(flags.statistics, model.master.baseSha256, null)
  print(`${model.id}, statistics of ${domains.join(', ')}`)
  const sizes = {
    layers: (flags.layers ?? '0,7,15,22,29').split(',').map(Number),
    scopes: (flags.scope ?? 'row').split(',').map(readScope),
    patterns: (flags.pattern ?? '0.5,0.6,0.7,2:4').split(','),
    threads: availableParallelism(),
  }
  ;(await benchJointSolver(model, artifacts, sizes)).forEach(print)
}

function readScope(text: string): MaskScope {
  if (text === 'row' || text === 'matrix') return text
  throw new Error(`--scope: 'row' or 'matrix' is expected, not '${text}'`)
}

function flag(name: string, otherwise: number): number {
  const value = flags[name] === undefined ? otherwise : Number(flags[name])
  if (!Number.isInteger(value) || value < 1)
    throw new Error(`--${name}: a whole number from 1 on is expected`)
  return value
}

/** A whole service, dense, on ports of its own. */
async function benchGateway(): Promise<void> {
  const ports = { gateway: await freePort(), node: await freePort() }
  const serviceHome = join(home, 'service')
  const service = spawn(process.execPath, [join(ROOT, 'infra', 'local', 'bootstrap.mjs'), 'start'], {
    env: {
      ...process.env,
      COPAL_HOME: serviceHome,
      COPAL_PORT: String(ports.gateway),
      COPAL_NODE_PORT: String(ports.node),
      COPAL_FIRST_UPDATE: 'off',
    },
    stdio: 'ignore',
  })
  try {
    while (!existsSync(join(serviceHome, 'credentials.json'))) {
      if (service.exitCode !== null) throw new Error(`npm start ended with ${service.exitCode}`)
      await sleep(200)
    }
    const model = await servedModel(ports.gateway, serviceHome)
    const target = readTarget(serviceHome, ports, model)
    for (const text of await benchGatewayOverhead(target, PAIRS)) print(text)
  } finally {
    service.kill('SIGTERM')
    if (service.exitCode === null) await once(service, 'exit')
  }
}

async function servedModel(port: number, serviceHome: string): Promise<string> {
  const { apiKey } = JSON.parse(readFileSync(join(serviceHome, 'credentials.json'), 'utf8')) as {
    apiKey: string
  }
  for (;;) {
    const response = await fetch(`http://127.0.0.1:${port}/v1/models`, {
      headers: { authorization: `Bearer ${apiKey}` },
    })
    const { data } = (await response.json()) as { data?: { id: string }[] }
    if (data?.[0]) return data[0].id
    await sleep(200)
  }
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}
