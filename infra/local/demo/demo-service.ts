import { spawn, type ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { statusReport, updateEntry } from '@copal/shared/wire/admin.ts'
import { UserError } from '../../../gpu-node/src/platform/user-error.ts'
import { followUpdate } from '../../../gpu-node/cli/api/follow-update.ts'
import { listOf } from '../../../gpu-node/cli/api/api-client.ts'
import { createProgressBar, type ProgressBar } from '../../../gpu-node/cli/output/progress-bar.ts'
import { interrupted, print, ROOT, session } from './demo-session.ts'

const SILENT: ProgressBar = { update: () => undefined, end: () => undefined }

/**
 * Waits for running updates, and at a first start for the first one.
 *
 * @param isOurs whether the demo started the service, which then shows its first update itself
 */
export async function waitForUpdates(isOurs: boolean): Promise<void> {
  for (;;) {
    const { data } = await session.client().admin('GET', '/updates', listOf(updateEntry))
    const running = data.find(({ finished_at }) => finished_at === null)
    if (running) {
      const bar = isOurs ? SILENT : createProgressBar(process.stderr)
      await followUpdate(session.client(), running.id, bar, interrupted)
    } else if (data.length > 0 || process.env.COPAL_FIRST_UPDATE === 'off') {
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
  })
  while (!(await isServing())) {
    if (child.exitCode !== null)
      throw new UserError('start_failed', 'The service did not start. The reason is printed above.')
    await sleep(500, undefined, { signal: interrupted })
  }
  return child
}
