/**
 * The probe texts. Every node scores them under each of its weight sets, and nodes with the same mask must agree: a
 * difference shows damaged weights. Different texts give different sums, so a change of them must change their number of
 * tokens, by which scores are compared.
 */
export const PROBE_TEXTS: readonly string[] = [
  'The mill had stood by the river for two hundred years before anyone thought of measuring how much water it used. ' +
    'When the engineers came, they found that the old wheel lost less than a tenth of what passed under it, which was ' +
    'better than the turbine that was meant to replace it. The miller was not surprised. His grandfather had said so.',
  'Either party may end this agreement by written notice of thirty days. Obligations that arose before the notice ' +
    'remain in force, in particular the payment of invoices that are due and the duty to keep confidential what was ' +
    'disclosed. If a provision of this agreement is void, the other provisions are not affected.',
  'def running_mean(values, size):\n    total = 0.0\n    window = []\n    for value in values:\n' +
    '        window.append(value)\n        total += value\n        if len(window) > size:\n' +
    '            total -= window.pop(0)\n        yield total / len(window)\n',
  'Question: A train leaves at 9:40 and arrives at 13:05. How long is the journey?\nAnswer: From 9:40 to 13:00 are ' +
    '3 hours and 20 minutes, and 5 minutes more make 3 hours and 25 minutes.\nQuestion: Which planet is closest to the ' +
    'sun?\nAnswer: Mercury, which takes 88 days for one orbit.\n',
]
