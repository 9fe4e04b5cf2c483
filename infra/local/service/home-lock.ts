import { join } from 'node:path'
import { takeProcessLock, type ProcessLock } from '../../../gpu-node/src/platform/process-lock.ts'
import { StartError } from '../processes/start-error.ts'

/**
 * Takes the lock of a COPAL_HOME for one running service.
 *
 * @throws StartError when a running service holds it.
 */
export function takeHomeLock(home: string, port: number): ProcessLock {
  const taken = takeProcessLock(join(home, 'running.json'), { port })
  if (!('holder' in taken)) return taken
  const { holder, heldBy } = taken
  throw new StartError(
    `copal is already running with this home (${home}): ${heldBy}, port ${holder.port}. ` +
      'Stop it first, or set COPAL_HOME, COPAL_PORT and COPAL_NODE_PORT to run a second service.',
  )
}
