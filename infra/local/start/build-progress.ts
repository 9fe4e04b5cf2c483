import type { ProgressBar } from '../../../gpu-node/cli/output/progress-bar.ts'
import { formatDuration } from '../../../gpu-node/src/platform/quantities.ts'

/** How often the time is drawn: the last crates take most of it. */
const TICK_MS = 1_000

/** Draws how many crates cargo has compiled, and since when it runs. */
export interface BuildProgress {
  /** Receives the counts of the build. */
  onProgress: (done: number, total: number) => void
  /** Ends the drawing. */
  end(): void
}

/** Creates a {@link BuildProgress}, which draws nothing before the first counts. */
export function createBuildProgress(bar: ProgressBar): BuildProgress {
  const startedAtMs = Date.now()
  let counts: string | undefined
  let hasEnded = false
  const draw = () => {
    if (counts !== undefined && !hasEnded)
      bar.update('Compiling', null, `${counts}, ${formatDuration(Date.now() - startedAtMs)}`)
  }
  const timer = setInterval(draw, TICK_MS)
  return {
    onProgress(done, total) {
      counts = `${done} of ${total} crates`
      draw()
    },
    end() {
      hasEnded = true
      clearInterval(timer)
    },
  }
}
