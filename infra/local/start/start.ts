/**
 * `npm start`: the gateway in workerd and one node, kept running until this process is told to end;
 * at the very first start also the way from the dense model to the first mask.
 */
import { join } from 'node:path'
import { toUserError } from '../../../gpu-node/src/platform/user-error.ts'
import { createApiClient } from '../../../gpu-node/cli/api/api-client.ts'
import { createProgressBar } from '../../../gpu-node/cli/output/progress-bar.ts'
import { formatMask } from '../../../gpu-node/src/platform/quantities.ts'
import { isFullDisk } from '../../../gpu-node/src/platform/full-disk.ts'
import { renderBanner } from './banner.ts'
import { offerNative } from '../build-native.mjs'
import { runCron } from '../service/cron-trigger.ts'
import { firstUpdate } from './first-update.ts'
import { applyMigrations, gatewayPart } from '../service/gateway-process.ts'
import { makeHomeDir, openHome, type Home } from '../service/home.ts'
import { takeHomeLock } from '../service/home-lock.ts'
import { drawModelProgress } from './model-progress.ts'
import { nodePart } from '../service/node-process.ts'
import { requireFreePort } from '../processes/ports.ts'
import { ensureApiKey, untilGatewayAnswers, untilModelServed, watchGateway } from '../service/readiness.ts'
import { readSettings, type Settings } from '../service/service-settings.ts'
import { StartError } from '../processes/start-error.ts'
import { supervise, type Supervised } from '../processes/supervise.ts'

/** After a `kill -9` the parts need a moment to notice. */
const PORT_PATIENCE_MS = 8000

const bar = createProgressBar(process.stdout)
const stopping = new AbortController()

process.stdout.on('error', () => undefined)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stopping.abort())
// Started by bootstrap.mjs with a channel that closes when it is gone.
if (process.connected) process.once('disconnect', () => stopping.abort())

process.exitCode = await main()
if (process.connected) process.disconnect()

async function main(): Promise<number> {
  try {
    const settings = readSettings(process.env)
    makeHomeDir(settings.home)
    const lock = takeHomeLock(settings.home, settings.port)
    try {
      const patienceMs = lock.wasAbandoned ? PORT_PATIENCE_MS : 0
      await requireFreePort(settings.port, 'COPAL_PORT', patienceMs)
      await requireFreePort(settings.nodePort, 'COPAL_NODE_PORT', patienceMs)
      await serve(settings, openHome(settings.home))
    } finally {
      lock.release()
    }
    return 0
  } catch (error) {
    if (isFullDisk(error)) return tellFullDisk()
    const told = error instanceof StartError ? error : toUserError(error, process.cwd())
    if (!told) throw error
    process.stderr.write(`copal: ${told.message}\n`)
    return 1
  }
}

function tellFullDisk(): number {
  process.stderr.write(
    'copal: the disk that holds COPAL_HOME is full. Free some, or set COPAL_HOME to a larger one.\n',
  )
  return 1
}

/** Runs both parts until told to stop. */
async function serve(settings: Settings, home: Home): Promise<void> {
  const { signal } = stopping
  const origin = `http://127.0.0.1:${settings.port}`
  const parts: Supervised[] = []
  const failure = Promise.withResolvers<never>()
  const nodeReady = Promise.withResolvers<void>()
  const stopped = Promise.withResolvers<void>()
  failure.promise.catch(() => undefined)
  signal.addEventListener('abort', () => stopped.resolve())

  // A node serves with what is there when it starts: the addon is built before, beside the gateway's start.
  const node = offerNative(sayBetween, { signal }).then(async () => {
    signal.throwIfAborted()
    const part = await nodePart(settings, home, origin, (message) => {
      if (message.type === 'progress') drawModelProgress(bar, message.progress)
      if (message.type === 'ready') nodeReady.resolve()
      if (message.type === 'failed') failure.reject(new StartError(message.message))
    })
    const supervised = supervise(part, say)
    // It ends first: what it still has to settle goes to the gateway.
    parts.unshift(supervised)
    return supervised
  })
  try {
    await Promise.race([
      stopped.promise,
      failure.promise,
      node.then(({ failed }) => failed),
      run(settings, home, origin, node, nodeReady.promise, parts),
    ])
  } finally {
    bar.end()
    if (signal.aborted) say('Stopping …')
    // For work that is still in flight when a part failed.
    else stopping.abort()
    await Promise.allSettled([node])
    for (const part of parts) await part.stop()
  }
}

/** From the first process to the last word about the first mask; then it waits for the end. */
async function run(
  settings: Settings,
  home: Home,
  origin: string,
  node: Promise<Supervised>,
  nodeReady: Promise<void>,
  parts: Supervised[],
): Promise<void> {
  const { signal } = stopping
  await applyMigrations(settings, home, signal)
  signal.throwIfAborted()
  const gateway = supervise(gatewayPart(settings, home), say)
  parts.push(gateway)
  await Promise.race([gateway.failed, untilGatewayAnswers(origin, signal)])
  gateway.markReady()
  // Both end by the signal alone.
  watchGateway(origin, gateway, signal).catch(() => undefined)
  runCron(origin, signal).catch(() => undefined)
  const apiKey = await ensureApiKey(origin, home, signal)
  // What the gateway remembers of a node that was killed a moment ago is not enough.
  await nodeReady
  const model = await untilModelServed(origin, apiKey, signal)
  ;(await node).markReady()
  bar.end()
  const { adminKey } = home.secrets
  const serving = formatMask(model.copal.mask_version)
  const credentialsPath = join(home.dir, 'credentials.json')
  process.stdout.write(renderBanner({ origin, apiKey, adminKey, model: model.id, serving, credentialsPath }))

  if (settings.firstUpdate) {
    const told = await firstUpdate(createApiClient({ origin, apiKey, adminKey }, signal), bar, signal)
    bar.end()
    if (told !== undefined) say(told)
  }
  await new Promise(() => undefined)
}

/** While a bar may be drawn. */
function sayBetween(line: string): void {
  bar.end()
  say(line)
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
