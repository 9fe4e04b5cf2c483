import type { StatusReport } from '@copal/shared/wire/admin.ts'
import { untilConverged, until, type Service } from '../processes/service.ts'

/** Kills the processes of the service's node with SIGKILL. `back` waits until a new process serves. */
export function killNode(
  service: Service,
  killed = nodePids(service),
): { back: () => Promise<StatusReport> } {
  if (killed.length === 0) throw new Error('no node process found')
  for (const pid of killed) killUnlessGone(pid)
  return {
    async back() {
      await until('another node process that serves', async () => {
        if (!nodePids(service).some((pid) => !killed.includes(pid))) return undefined
        const health = await fetch(`http://127.0.0.1:${service.nodePort}/health`)
        return health.ok ? true : undefined
      })
      return untilConverged(service)
    },
  }
}

/** Kills a process, which may have ended since it was found. */
function killUnlessGone(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

/** Returns the pids of the service's node. */
export function nodePids(service: Service): number[] {
  return service.pids('gpu-node/src/main.ts')
}
