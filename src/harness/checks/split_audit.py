"""The audit of samples and folds, before anything is scored.

===================  ==================================================  ==================================
rule                 caution                                             leak
===================  ==================================================  ==================================
``blocks_split``                                                         a stimulation block on both sides
``runs_split``       a scanner run on both sides
``neighbours``       held-out volumes within 8 s of training volumes     also, of the same block
``class_balance``    a share of a class more than a fifth from equal
                     shares, in a training or held-out set
``small_holdout``    so few held-out blocks that the 95 % interval of
                     accuracies at chance is wider than +- .25
``class_order``      a class first in three quarters of the scanner      in all or in none; classes in
                     runs or more                                        different scanner runs
``block_lengths``    mean lengths that differ by a quarter, or no        both
                     length that both classes have
``merged_blocks``    a block of two or more times the usual length
``event_timing``     blocks of one volume, 8 s apart or less
``grouped_classes``  a class of several conditions
``standardisation``  by the held-out set's own mean and SD; scanner      the former, where the held-out
                     runs cleaned as a whole and then split              set is two samples
``screening``                                                            voxels chosen with labels of
                                                                         held-out blocks
``selection``        parameters chosen on the fold that is scored
``dummy``            a dummy that guesses
===================  ==================================================  ==================================

`harness.checks.result_audit` has the rules that need results.
"""

from harness.checks.audited_split import AuditedSplit
from harness.checks.block_rules import (
    judge_block_lengths,
    judge_class_order,
    judge_event_timing,
    judge_grouped_classes,
    judge_merged_blocks,
)
from harness.checks.findings import Finding, Rule, apply_rules
from harness.checks.fold_rules import (
    judge_blocks_split,
    judge_class_balance,
    judge_neighbours,
    judge_runs_split,
    judge_small_holdout,
)
from harness.checks.method_rules import (
    judge_dummy,
    judge_screening,
    judge_selection,
    judge_standardisation,
)
from harness.decoding.question import Question
from harness.samples.samples import Samples

LEMM = "Lemm et al. 2011, NeuroImage 56:387-399, doi:10.1016/j.neuroimage.2010.11.004"
MUMFORD = "Mumford et al. 2014, NeuroImage 103:130-138, doi:10.1016/j.neuroimage.2014.09.026"
VAROQUAUX_2017 = "Varoquaux et al. 2017, NeuroImage 145:166-179, doi:10.1016/j.neuroimage.2016.10.038"
VAROQUAUX_2018 = "Varoquaux 2018, NeuroImage 180:68-77, doi:10.1016/j.neuroimage.2017.06.061"
BRODERSEN = "Brodersen et al. 2010, ICPR, doi:10.1109/ICPR.2010.764"
GOERGEN = "Görgen et al. 2018, NeuroImage 180:19-30, doi:10.1016/j.neuroimage.2017.12.083"
KAUFMAN = "Kaufman et al. 2012, ACM TKDD 6:15, doi:10.1145/2382577.2382579"
KRIEGESKORTE = "Kriegeskorte et al. 2009, Nature Neuroscience 12:535-540, doi:10.1038/nn.2303"
WESTFALL = "Westfall et al. 2017, Wellcome Open Research 1:23, doi:10.12688/wellcomeopenres.10298.2"

SPLIT_RULES = (
    Rule("blocks_split", LEMM, judge_blocks_split),
    Rule("runs_split", VAROQUAUX_2017, judge_runs_split),
    Rule("neighbours", MUMFORD, judge_neighbours),
    Rule("class_balance", BRODERSEN, judge_class_balance),
    Rule("small_holdout", VAROQUAUX_2018, judge_small_holdout),
    Rule("class_order", GOERGEN, judge_class_order),
    Rule("block_lengths", GOERGEN, judge_block_lengths),
    Rule("merged_blocks", "harness.samples.blocks.find_blocks", judge_merged_blocks),
    Rule("event_timing", MUMFORD, judge_event_timing),
    Rule("grouped_classes", WESTFALL, judge_grouped_classes),
    Rule("standardisation", KAUFMAN, judge_standardisation),
    Rule("screening", KRIEGESKORTE, judge_screening),
    Rule("selection", VAROQUAUX_2017, judge_selection),
    Rule("dummy", "harness.decoding.decoder.DummyDecoder", judge_dummy),
)


def audit_split(samples: Samples, question: Question) -> list[Finding]:
    """Audit samples and the folds of a scheme; neither scores nor predictions are needed.

    Returns
    -------
    findings : list of Finding
        One per rule of `SPLIT_RULES`.

    Raises
    ------
    DesignError
        If the scheme does not fit the samples.
    """
    return apply_rules(SPLIT_RULES, AuditedSplit.of(samples, question))
