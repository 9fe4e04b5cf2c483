import type { ProgressBar } from '../../../gpu-node/cli/output/progress-bar.ts'
import { formatDuration } from '../../../gpu-node/src/platform/quantities.ts'
import type { ModelProgress } from '../../../gpu-node/src/platform/progress.ts'
import { drawModelProgress } from './model-progress.ts'

/** How often the time is drawn: the last crates take most of it. */
const TICK_MS = 1_000

/** Draws on one line a build of an addon and the fetching of the model, which run at the same time. */
export interface PreparationProgress {
  /** Receives the number of crates that are compiled, and of all. */
  onBuild: (done: number, total: number) => void
  /** Receives the progress of the model, which is drawn before that of the build. */
  onModel: (progress: ModelProgress) => void
  /** Prints a line above the drawing. */
  print: (line: string) => void
  /** Draws only the build from now on. */
  endModel(): void
  /** Draws no build any more, and prints `lastLine` instead. */
  endBuild(lastLine?: string): void
  /** Ends the drawing. */
  end(): void
}

/** Creates a {@link PreparationProgress}, which draws nothing before the first counts. */
export function createPreparationProgress(bar: ProgressBar): PreparationProgress {
  const startedAtMs = Date.now()
  let crates: string | undefined
  let model: ModelProgress | undefined
  let hasEnded = false
  const draw = () => {
    if (hasEnded) return
    const build = crates && `${crates}, ${formatDuration(Date.now() - startedAtMs)}`
    if (model !== undefined) drawModelProgress(bar, model, build && `compiling ${build}`)
    else if (build !== undefined) bar.update('Compiling', null, build)
  }
  // Only counts are drawn again as time passes.
  const timer = setInterval(() => crates && draw(), TICK_MS)
  const print = (line: string) => {
    bar.end(line)
    draw()
  }
  return {
    onBuild(done, total) {
      crates = `${done} of ${total} crates`
      // The first line is that of the model, which comes at once, or of the timer.
      if (done > 0) draw()
    },
    onModel(progress) {
      model = progress
      draw()
    },
    print,
    endModel() {
      model = undefined
    },
    endBuild(lastLine) {
      crates = undefined
      if (lastLine !== undefined && !hasEnded) print(lastLine)
    },
    end() {
      if (hasEnded) return
      hasEnded = true
      clearInterval(timer)
      bar.end()
    },
  }
}
