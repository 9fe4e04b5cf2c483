import type { ProgressBar } from '../../../gpu-node/cli/output/progress-bar.ts'
import { formatBytes } from '../../../gpu-node/src/platform/quantities.ts'
import type { ModelProgress } from '../../../gpu-node/src/platform/progress.ts'

const LABELS: Record<ModelProgress['stage'], string> = {
  download: 'Downloading',
  verify: 'Verifying',
  convert: 'Converting',
}

/**
 * Shows the progress of downloading and converting a model.
 *
 * @param meanwhile what happens at the same time, shown last
 */
export function drawModelProgress(
  bar: ProgressBar,
  { stage, what, doneBytes, totalBytes }: ModelProgress,
  meanwhile?: string,
): void {
  const bytes =
    totalBytes === null ? formatBytes(doneBytes) : `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`
  const fraction = totalBytes ? doneBytes / totalBytes : null
  bar.update(`${LABELS[stage]} ${what}`, fraction, [bytes, meanwhile].filter(Boolean).join('; '))
}
