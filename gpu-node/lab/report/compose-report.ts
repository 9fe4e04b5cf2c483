import { distinct, publishedScopeNote, patternRulesLabel } from '../results/labels.ts'
import { calibratedDomains } from '../results/last-stage.ts'
import type { LabResults } from '../results/lab-results.ts'
import { paragraph, type Block, type ReportDocument } from './document/report-document.ts'
import { churnSection } from './sections/churn-section.ts'
import { costsSection } from './sections/costs-section.ts'
import { datasetsSection } from './sections/datasets-section.ts'
import { forgettingSection } from './sections/forgetting-section.ts'
import { inputsSection } from './sections/inputs-section.ts'
import { lastStageSection } from './sections/last-stage-section.ts'
import { layersSection } from './sections/layers-section.ts'
import { samplesSections, sparsitySection } from './sections/sweep-sections.ts'

/** Composes the report of a result. Data that the result lacks has no section. */
export function composeReport(results: LabResults): ReportDocument {
  return withUniquePanels({
    title: `Pruning laboratory: ${results.model.id}`,
    sections: [
      { title: 'This run', blocks: openingBlocks(results) },
      forgettingSection(results),
      lastStageSection(results),
      datasetsSection(results),
      sparsitySection(results),
      ...samplesSections(results),
      layersSection(results),
      churnSection(results),
      costsSection(results),
      inputsSection(results),
    ].filter((section) => section !== undefined),
  })
}

/**
 * Makes panel names unique: names that differ only in punctuation would share a file, so the second one gets a number.
 */
function withUniquePanels(report: ReportDocument): ReportDocument {
  const taken = new Map<string, number>()
  const unique = (name: string): string => {
    const before = taken.get(name) ?? 0
    taken.set(name, before + 1)
    return before === 0 ? name : unique(`${name}-${before + 1}`)
  }
  return {
    ...report,
    sections: report.sections.map((section) => ({
      ...section,
      blocks: section.blocks.map((block) =>
        block.kind === 'figure'
          ? { ...block, panels: block.panels.map((panel) => ({ ...panel, name: unique(panel.name) })) }
          : block,
      ),
    })),
  }
}

function openingBlocks(results: LabResults): Block[] {
  const { runs, domains, settings, incomplete, warnings = [] } = results
  const calibrated = calibratedDomains(results).map(({ name }) => name)
  const others = domains.filter(({ name }) => !calibrated.includes(name)).map(({ name }) => name)
  const methods = distinct(runs.map(({ method }) => method))
  const rules = patternRulesLabel(settings)
  const sentences = [
    `Calibrated on ${joinNames(calibrated)}, ${settings.samples} samples of ${settings.length} tokens each, ${settings.propagation} propagation, seed ${settings.seed}.`,
    evaluationSentence(calibrated, others, warnings.length > 0),
    `Methods: ${joinNames(methods)}.`,
    ...(rules === undefined
      ? []
      : [`Single linears have patterns of their own, and percentages are of the others: ${rules}.`]),
  ]
  const missing = runs.length === 0 ? ['no method has been run', ...incomplete] : incomplete
  return [
    ...(missing.length > 0
      ? [{ kind: 'notice' as const, text: 'Incomplete: this has not been run yet.', items: missing }]
      : []),
    ...(warnings.length > 0
      ? [{ kind: 'notice' as const, text: 'Some texts have something in common.', items: warnings }]
      : []),
    paragraph([...sentences, publishedScopeNote(runs) ?? []].flat().join(' ')),
  ]
}

/** @param isSuspect whether a warning says that some evaluation text is not held out */
function evaluationSentence(
  calibrated: readonly string[],
  others: readonly string[],
  isSuspect: boolean,
): string {
  if (calibrated.length === 0) return `Evaluated on ${joinNames(others)}.`
  const same = isSuspect
    ? 'text of the same, held out but for what is said above'
    : 'held-out text of the same'
  const rest =
    others.length > 0
      ? ` and, never calibrated on, of ${joinNames(others)}`
      : '; no other domain was evaluated'
  return `Evaluated on ${same}${rest}.`
}

/** Returns `a`, `a and b`, `a, b and c`; `nothing` without names. */
function joinNames(names: readonly string[]): string {
  if (names.length < 2) return names[0] ?? 'nothing'
  return `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`
}
