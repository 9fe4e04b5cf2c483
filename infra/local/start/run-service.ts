import { join } from 'node:path'
import { dashboardLink } from '@copal/shared/wire/admin-session.ts'
import { createApiClient } from '../../../gpu-node/cli/api/api-client.ts'
import { advisedService } from '../../../gpu-node/cli/input/advised-service.ts'
import { createProgressBar } from '../../../gpu-node/cli/output/progress-bar.ts'
import { isFullDisk } from '../../../gpu-node/src/platform/full-disk.ts'
import { formatMask } from '../../../gpu-node/src/platform/quantities.ts'
import type { NodeMessage } from '../../../gpu-node/src/platform/supervisor.ts'
import { makeWritableFolder } from '../../../gpu-node/src/platform/writable-folder.ts'
import { readHint } from '../../../gpu-node/src/serving/advice/advice-hint.ts'
import { toUserError } from '../../../gpu-node/src/platform/user-error.ts'
import { ensureDashboard } from '../dashboard/ensure-dashboard.ts'
import { preferredPort, requireFreePort } from '../processes/ports.ts'
import { StartError } from '../processes/start-error.ts'
import { supervise, type Supervised } from '../processes/supervise.ts'
import { watchSources } from '../processes/watch-sources.ts'
import { fireByAddress, runCron, type FireCron } from '../service/cron-trigger.ts'
import { logLength, readConfigurationFault } from '../service/configuration-fault.ts'
import { gatewayBundle } from '../service/gateway-bundle.ts'
import { applyMigrations } from '../service/apply-migrations.ts'
import { undoLeftChanges } from '../service/demo-policy.ts'
import { gatewayPart } from '../service/gateway-process.ts'
import { takeHomeLock } from '../service/home-lock.ts'
import { makeHomeDir, openHome, type Home } from '../service/home.ts'
import { nodePart } from '../service/node-process.ts'
import type { GatewayMessage } from '../service/run-gateway.ts'
import { ensureApiKey, untilGatewayHealthy, untilModelServed } from '../service/readiness.ts'
import { describeUnknownSettings, readSettings, type Settings } from '../service/service-settings.ts'
import { watchGateway } from '../service/watch-gateway.ts'
import { wipeDeletedTexts } from '../service/wipe-deleted.ts'
import { describeOtherKeys, renderBanner, renderDevelopmentBanner } from './banner.ts'
import { firstUpdate } from './first-update.ts'
import { drawModelProgress } from './model-progress.ts'
import { describeNode } from './node-line.ts'
import { prepareNode } from './prepare-node.ts'

/** How long the processes of a killed service may take to release their ports. */
const PORT_PATIENCE_MS = 8000
/** A source that cannot be bundled leaves Wrangler running without a gateway, so the log is named after this time. */
const GATEWAY_NOTICE_MS = 60_000
/** The debugger ports that tools try first, used unless another process has them. */
const GATEWAY_INSPECTOR_PORT = 9229
const NODE_INSPECTOR_PORT = 9230

/** The settings and state that the parts of one running service share. */
interface Service {
  settings: Settings
  home: Home
  origin: string
  /** Aborted when the service must stop. */
  signal: AbortSignal
}

const bar = createProgressBar(process.stdout)
const stopping = new AbortController()

/**
 * Runs the gateway in workerd and one node until this process is asked to end. The very first start also makes the
 * first mask of the dense model.
 *
 * @param options `development` opens debugger ports and restarts the node when its sources change; Wrangler reloads the
 * gateway by itself
 * @returns the exit code
 */
export async function runService(options: { development?: boolean } = {}): Promise<number> {
  process.stdout.on('error', () => undefined)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stopping.abort())
  // bootstrap.mjs starts this process with a channel that closes when bootstrap.mjs is gone.
  if (process.connected) process.once('disconnect', () => stopping.abort())
  try {
    const settings = readSettings(process.env)
    for (const line of describeUnknownSettings(process.env)) print(line)
    makeHomeDir(settings.home)
    makeWritableFolder(settings.cache, 'COPAL_CACHE')
    const lock = takeHomeLock(settings.home, settings.port)
    try {
      const patienceMs = lock.wasAbandoned ? PORT_PATIENCE_MS : 0
      await requireFreePort(settings.port, 'COPAL_PORT', patienceMs, stopping.signal)
      await requireFreePort(settings.nodePort, 'COPAL_NODE_PORT', patienceMs, stopping.signal)
      const development = options.development ? { inspectorPorts: await chooseInspectorPorts() } : {}
      const origin = `http://127.0.0.1:${settings.port}`
      await serve({
        settings: { ...settings, ...development },
        home: openHome(settings.home, settings.recogniserToken),
        origin,
        signal: stopping.signal,
      })
    } finally {
      lock.release()
    }
    return 0
  } catch (error) {
    if (isInterruption(error)) return 0
    if (isFullDisk(error)) return reportFullDisk()
    const userError = error instanceof StartError ? error : toUserError(error, process.cwd())
    if (!userError) throw error
    process.stderr.write(`copal: ${userError.message}\n`)
    return 1
  }
}

async function chooseInspectorPorts(): Promise<{ gateway: number; node: number }> {
  return {
    gateway: await preferredPort(GATEWAY_INSPECTOR_PORT),
    node: await preferredPort(NODE_INSPECTOR_PORT),
  }
}

/** Returns whether a step of the start ended because the service was asked to end. */
function isInterruption(error: unknown): boolean {
  return stopping.signal.aborted && error instanceof Error && error.name === 'AbortError'
}

function reportFullDisk(): number {
  process.stderr.write(
    'copal: The disk that holds COPAL_HOME is full. Free some space, or set COPAL_HOME to a larger disk.\n',
  )
  return 1
}

/** Runs both parts until the service is asked to end or a part fails to start. */
async function serve(service: Service): Promise<void> {
  const { settings, home, origin, signal } = service
  signal.throwIfAborted()
  const parts: Supervised[] = []
  const failure = Promise.withResolvers<never>()
  const nodeReady = Promise.withResolvers<void>()
  const stopped = Promise.withResolvers<void>()
  failure.promise.catch(() => undefined)
  signal.addEventListener('abort', () => stopped.resolve())

  let isNodeReady = false
  const onNodeMessage = (message: NodeMessage): void => {
    if (message.type === 'progress') drawModelProgress(bar, message.progress)
    if (message.type === 'ready') {
      if (isNodeReady && settings.inspectorPorts) print('The node is ready again.')
      isNodeReady = true
      nodeReady.resolve()
    }
    if (message.type === 'failed') {
      // In development the next change of a source may repair a node that served before.
      if (isNodeReady && settings.inspectorPorts) print(`The node cannot start: ${message.message}`)
      else failure.reject(new StartError(message.message))
    }
  }
  // A node uses the addon that it finds when it starts, so the build comes first. The gateway starts meanwhile.
  const node = prepareNode(settings, bar, signal).then(async () => {
    signal.throwIfAborted()
    const supervised = supervise(await nodePart(settings, home, origin, onNodeMessage), print)
    // The node ends first: it still sends its last receipts to the gateway.
    parts.unshift(supervised)
    return supervised
  })
  try {
    await Promise.race([
      stopped.promise,
      failure.promise,
      node.then(({ failed }) => failed),
      run(service, node, nodeReady.promise, parts, failure.reject),
    ])
  } finally {
    bar.end()
    if (signal.aborted) print('Stopping …')
    // Ends work that is still in flight when a part failed.
    else stopping.abort()
    await Promise.allSettled([node])
    for (const part of parts) await part.stop()
  }
}

/**
 * Brings the service up, prints how to call it, makes the first mask, and then never returns.
 *
 * @param fail ends the service
 */
async function run(
  { settings, home, origin, signal }: Service,
  node: Promise<Supervised>,
  nodeReady: Promise<void>,
  parts: Supervised[],
  fail: (error: StartError) => void,
): Promise<void> {
  const dashboard = ensureDashboard(settings.root)
  if (dashboard.error !== undefined) printBelowBar(`The dashboard cannot be built: ${dashboard.error}`)
  const isDevelopment = settings.inspectorPorts !== undefined
  const [bundle] = await Promise.all([
    isDevelopment ? undefined : gatewayBundle(settings.root),
    applyMigrations(settings, home, signal),
    wipeDeletedTexts(home, printBelowBar),
  ])
  signal.throwIfAborted()
  const logStart = logLength(home.gatewayLogPath)
  const gateway = supervise(gatewayPart(settings, home, bundle), print)
  parts.push(gateway)
  const fire: FireCron = isDevelopment
    ? fireByAddress(origin, signal)
    : (cron) => gateway.send({ cron } satisfies GatewayMessage)
  // For those who do not want to wait a minute, such as tests. Windows has no such signal.
  if (process.platform !== 'win32') process.on('SIGUSR2', () => void fire(null))
  const notice = setTimeout(
    () => printBelowBar(`The gateway does not respond yet. Its log: ${home.gatewayLogPath}`),
    GATEWAY_NOTICE_MS,
  )
  const throwFault = () => {
    const fault = readConfigurationFault(home.gatewayLogPath, logStart)
    if (fault !== undefined) throw new StartError(fault)
  }
  await Promise.race([gateway.failed, untilGatewayHealthy(origin, signal, throwFault)]).finally(() =>
    clearTimeout(notice),
  )
  gateway.markReady()
  // Runs until the signal is aborted. A gateway that stands at a breakpoint answers no health check.
  if (!settings.inspectorPorts)
    watchGateway({ ...gateway, origin, logPath: home.gatewayLogPath }, printBelowBar, signal).catch(
      (error: unknown) => error instanceof StartError && fail(error),
    )
  const { apiKey, others } = await ensureApiKey(origin, home, signal)
  // The gateway may still list a node that was killed a moment ago, so wait for the new one.
  await nodeReady
  const model = await untilModelServed(origin, apiKey, signal)
  const supervisedNode = await node
  supervisedNode.markReady()
  bar.end()
  const { adminKey } = home.secrets
  const serving = formatMask(model.copal.mask_version)
  const credentialsPath = join(home.dir, 'credentials.json')
  const client = createApiClient({ origin, apiKey, adminKey }, signal)
  const link = await client.admin('POST', '/dashboard-links', dashboardLink).catch(() => undefined)
  signal.throwIfAborted()
  process.stdout.write(
    renderBanner({
      origin,
      apiKey,
      adminKey,
      model: model.id,
      serving,
      credentialsPath,
      node: await describeNode(client),
      dashboardLink: link?.url,
    }),
  )
  for (const line of describeOtherKeys(others)) print(line)
  await undoLeftChanges({ client, adminKey, homeDir: home.dir }, print)
  const advised = { cwd: settings.root, env: process.env }
  const activeMask = model.copal.mask_version === 0 ? null : serving
  const hint = await readHint(advisedService(advised, activeMask))
  if (hint !== undefined) print(`'npx copal advise' measured here: ${hint}\n`)
  if (settings.inspectorPorts) {
    process.stdout.write(renderDevelopmentBanner(settings, home, settings.inspectorPorts))
    restartOnChange(supervisedNode, settings, signal)
  }

  if (settings.firstUpdate) {
    const outcome = await firstUpdate(client, bar, signal)
    bar.end()
    if (outcome !== undefined) print(outcome)
  }
  // Not before: an update that starts by itself while the packaged text arrives would take the place of the first one.
  runCron(fire, signal).catch(() => undefined)
  await new Promise(() => undefined)
}

/** Restarts the node when one of its sources changes, and builds the dashboard when one of its own does. */
function restartOnChange(node: Supervised, { root }: Settings, signal: AbortSignal): void {
  const folders = [join(root, 'gpu-node', 'src'), join(root, 'shared', 'src')]
  watchSources(folders, signal, (path) => {
    printBelowBar(`${path.slice(root.length + 1)} changed; restarting the node …`)
    node.restart()
  })
  watchSources([join(root, 'gateway', 'dashboard', 'src')], signal, () => {
    const { error } = ensureDashboard(root)
    printBelowBar(
      error === undefined ? 'The dashboard was built.' : `The dashboard cannot be built: ${error}`,
    )
  })
}

function printBelowBar(line: string): void {
  bar.end()
  print(line)
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}
