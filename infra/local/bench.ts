/**
 * `npm run bench`: what the ONNX backend, calibration, a swap and the gateway cost on this machine.
 * Everything that is compared is interleaved; every figure is `median (min–max, n)`.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism, homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { benchCalibration } from '../../gpu-node/bench/calibration.ts'
import { formatSpread, line, machineLine, spread } from '../../gpu-node/bench/report.ts'
import { benchServing } from '../../gpu-node/bench/serving.ts'
import { createOnnxBackend } from '../../gpu-node/src/backends/onnx/backend.ts'
import { openModel } from '../../gpu-node/src/model/load.ts'
import { DEFAULT_MODEL } from '../../gpu-node/src/model/source.ts'
import { benchGatewayOverhead, readTarget } from './bench/gateway-overhead.ts'
import { freePort } from './ports.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const REPETITIONS = 5
const LOADS = 3
const PAIRS = 60

const home = mkdtempSync(join(tmpdir(), 'copal-bench-'))
try {
  print(machineLine())
  await benchNode()
  await benchGateway()
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
    { name: 'dense', weights: dense },
    { name: '50 % mask', weights: pruned },
  ]
  ;(await benchServing(backend, sets, REPETITIONS)).forEach(print)
  await Promise.all([backend.release(dense), backend.release(pruned)])
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
