import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { benchCalibration } from '../pruning/calibration.ts'
import { benchRefinements } from '../pruning/refinements.ts'
import { formatSpread, line } from '../measurement/report.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'
import { benchServing } from '../serving/serving.ts'
import { createOnnxBackend } from '@copal/gpu-node/serving/backends/onnx/onnx-backend.ts'
import { findStatistics } from '@copal/lab/run/find-statistics.ts'
import { freePort } from '../../../infra/local/processes/ports.ts'
import { ROOT } from '../../../infra/local/toolchain/toolchain.mjs'
import { benchGatewayOverhead, readTarget } from '../gateways/gateway-overhead.ts'
import { modelReference, openBenchModel, type Workbench } from './workbench.ts'

const REPETITIONS = 5
const LOADS = 3
const PAIRS = 60

/** Adds the benchmark of the ONNX backend, calibration and a local service. */
export function addService(program: Command, bench: Workbench): void {
  program
    .command('service')
    .description('the ONNX backend, calibration, a swap, and the latency that the gateway of npm start adds')
    .action(async () => {
      await benchNode(bench)
      await benchGateway(bench)
    })
}

/** Measures the backend and calibration without a server. */
async function benchNode({ home, threads, print, printAll }: Workbench): Promise<void> {
  const model = await openBenchModel()
  const { hiddenSize, layers, vocabSize } = model.config
  print(
    `${model.id}: ${layers} layers, hidden ${hiddenSize}, vocabulary ${vocabSize}; f32, ${threads} threads\n`,
  )

  const reference = { ...modelReference(), id: model.id, baseSha256: model.master.baseSha256 }
  const text = readFileSync(join(ROOT, 'infra', 'local', 'start', 'texts', 'general.txt'), 'utf8')
  const { lines, maskPath } = await benchCalibration(reference, text, join(home, 'calibration'), {
    samples: 16,
    length: 512,
  })
  printAll(lines)
  const { artifacts } = await findStatistics(join(home, 'calibration'), model, null)
  printAll(await benchRefinements(model, artifacts, { threads, tolerances: [1e-1, 1e-2, 1e-3] }))

  const backend = createOnnxBackend({ workDir: join(home, 'work') })
  const masked = { model, version: 1, maskPath, priority: 'serving' } as const
  const loadMs: number[] = []
  for (let load = 0; load < LOADS; load++) {
    const startedMs = performance.now()
    const weights = await backend.load(masked)
    loadMs.push(performance.now() - startedMs)
    await backend.release(weights)
  }
  print(line('swap: mask file → verified, loaded, self-tested', formatSpread(spread(loadMs), 'ms', 0)))

  const dense = await backend.load({ model, version: 0, maskPath: null, priority: 'serving' })
  const pruned = await backend.load(masked)
  const sets = [
    { name: 'dense', backend, weights: dense },
    { name: '50 % mask', backend, weights: pruned },
  ]
  printAll(await benchServing(sets, REPETITIONS))
  await Promise.all([backend.release(dense), backend.release(pruned)])
}

/** Measures the gateway of a whole service with the dense model, on free ports. */
async function benchGateway({ home, printAll }: Workbench): Promise<void> {
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
    printAll(await benchGatewayOverhead(readTarget(serviceHome, ports, model), PAIRS))
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
