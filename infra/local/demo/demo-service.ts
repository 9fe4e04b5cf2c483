import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { statusReport, updateEntry } from '@copal/shared/wire/admin.ts'
import { UserError } from '../../../gpu-node/src/platform/user-error.ts'
import { followUpdate } from '../../../gpu-node/cli/api/follow-update.ts'
import { listOf } from '../../../gpu-node/cli/api/api-client.ts'
import { createProgressBar, type ProgressBar } from '../../../gpu-node/cli/output/progress-bar.ts'
import { interrupted, print, ROOT, session } from './demo-session.ts'

/** How long a service that runs already may take to begin its first update. It begins seconds after the first start. */
const FIRST_UPDATE_MS = 60_000

const SILENT: ProgressBar = { update: () => undefined, end: () => undefined }

/**
 * Waits for running updates, and at a first start for the first one. A service that the demo has not started may never make one.
 *
 * @param isOurs whether the demo started the service, which then shows its first update itself
 */
export async function waitForUpdates(isOurs: boolean): Promise<void> {
  const sinceMs = Date.now()
  for (;;) {
    const { data } = await session.client().admin('GET', '/updates', listOf(updateEntry))
    const running = data.find(({ finished_at }) => finished_at === null)
    if (running) {
      const bar = isOurs ? SILENT : createProgressBar(process.stderr)
      await followUpdate(session.client(), running.id, bar, interrupted)
    } else if (data.length > 0 || process.env.COPAL_FIRST_UPDATE === 'off') {
      return
    } else if (!isOurs && Date.now() - sinceMs >= FIRST_UPDATE_MS) {
      return
    } else {
      // At the very first start the update begins when the texts have arrived.
      await sleep(500, undefined, { signal: interrupted })
    }
  }
}

/** Returns whether a gateway answers that has a live node. */
export async function isServing(): Promise<boolean> {
  try {
    const status = await session.client().admin('GET', '/status', statusReport)
    return status.nodes.some(({ alive }) => alive)
  } catch (error) {
    if (error instanceof UserError) return false
    throw error
  }
}

/** Starts the service as `npm start` does, and waits until it serves. */
export async function startService(): Promise<ChildProcess> {
  print('No service is running. Starting one (npm start) …')
  const child = spawn(process.execPath, [join(ROOT, 'infra', 'local', 'bootstrap.mjs'), 'start'], {
    stdio: ['ignore', 'inherit', 'inherit'],
    // Ctrl-C ends the demo first, which needs the service to take back what it has changed.
    detached: true,
  })
  try {
    while (!(await isServing())) {
      if (!isRunning(child))
        throw new UserError('start_failed', 'The service did not start. The reason is printed above.')
      await sleep(500, undefined, { signal: interrupted })
    }
  } catch (error) {
    await stopService(child)
    throw error
  }
  return child
}

/** Ends a service that the demo started, and waits until it has ended. */
export async function stopService(service: ChildProcess): Promise<void> {
  if (!isRunning(service)) return
  service.kill('SIGTERM')
  await once(service, 'exit')
}

/** Returns whether a child process runs. One that a signal ended has no exit code. */
function isRunning({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode === null && signalCode === null
}
