import type { ProgressBar } from '../../../gpu-node/cli/output/progress-bar.ts'
import { formatBytes } from '../../../gpu-node/src/platform/quantities.ts'
import type { ModelProgress } from '../../../gpu-node/src/platform/progress.ts'

const LABELS: Record<ModelProgress['stage'], string> = {
  download: 'Downloading',
  verify: 'Verifying',
  convert: 'Converting',
}

/** Shows the progress of downloading and converting a model. */
export function drawModelProgress(
  bar: ProgressBar,
  { stage, what, doneBytes, totalBytes }: ModelProgress,
): void {
  const bytes =
    totalBytes === null ? formatBytes(doneBytes) : `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`
  bar.update(`${LABELS[stage]} ${what}`, totalBytes ? doneBytes / totalBytes : null, bytes)
}
