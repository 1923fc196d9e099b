"""The references that methods texts cite, by a short key."""

from collections.abc import Mapping

REFERENCES: Mapping[str, str] = {
    "cobidas": "Nichols T. E. et al. (2017). Best practices in data analysis and sharing in neuroimaging "
    "using MRI. Nature Neuroscience 20:299-303. doi:10.1038/nn.4500",
    "nilearn": "Abraham A. et al. (2014). Machine learning for neuroimaging with scikit-learn. Frontiers in "
    "Neuroinformatics 8:14. doi:10.3389/fninf.2014.00014",
    "scikit-learn": "Pedregosa F. et al. (2011). Scikit-learn: machine learning in Python. Journal of "
    "Machine Learning Research 12:2825-2830",
    "haxby": "Haxby J. V. et al. (2001). Distributed and overlapping representations of faces and objects in "
    "ventral temporal cortex. Science 293:2425-2430. doi:10.1126/science.1063736",
    "liblinear": "Fan R.-E. et al. (2008). LIBLINEAR: a library for large linear classification. Journal of "
    "Machine Learning Research 9:1871-1874",
    "shrinkage": "Ledoit O., Wolf M. (2004). A well-conditioned estimator for large-dimensional covariance "
    "matrices. Journal of Multivariate Analysis 88:365-411. doi:10.1016/S0047-259X(03)00096-4",
    "leave-run-out": "Varoquaux G. et al. (2017). Assessing and tuning brain decoders: cross-validation, "
    "caveats, and guidelines. NeuroImage 145:166-179. doi:10.1016/j.neuroimage.2016.10.038",
    "patterns": "Haufe S. et al. (2014). On the interpretation of weight vectors of linear models in "
    "multivariate neuroimaging. NeuroImage 87:96-110. doi:10.1016/j.neuroimage.2013.10.067",
    "permutation": "Ojala M., Garriga G. C. (2010). Permutation tests for studying classifier performance. "
    "Journal of Machine Learning Research 11:1833-1863",
    "smallest-p": "Phipson B., Smyth G. K. (2010). Permutation p-values should never be zero. Statistical "
    "Applications in Genetics and Molecular Biology 9:39. doi:10.2202/1544-6115.1585",
    "sequential": "Besag J., Clifford P. (1991). Sequential Monte Carlo p-values. Biometrika 78:301-304. "
    "doi:10.1093/biomet/78.2.301",
    "maximum": "Nichols T. E., Holmes A. P. (2002). Nonparametric permutation tests for functional "
    "neuroimaging: a primer with examples. Human Brain Mapping 15:1-25. doi:10.1002/hbm.1058",
    "searchlight": "Kriegeskorte N., Goebel R., Bandettini P. (2006). Information-based functional brain "
    "mapping. PNAS 103:3863-3868. doi:10.1073/pnas.0600244103",
    "tfce": "Smith S. M., Nichols T. E. (2009). Threshold-free cluster enhancement: addressing problems of "
    "smoothing, threshold dependence and localisation in cluster inference. NeuroImage 44:83-98. "
    "doi:10.1016/j.neuroimage.2008.03.061",
    "searchlight-reading": "Etzel J. A., Zacks J. M., Braver T. S. (2013). Searchlight analysis: promise, "
    "pitfalls, and potential. NeuroImage 78:261-269. doi:10.1016/j.neuroimage.2013.03.041",
    "corrected-t": "Nadeau C., Bengio Y. (2003). Inference for the generalization error. Machine Learning "
    "52:239-281. doi:10.1023/A:1024068626366",
    "holm": "Holm S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian "
    "Journal of Statistics 6:65-70",
    "means": "Stelzer J., Chen Y., Turner R. (2013). Statistical inference and multiple testing "
    "correction in classification-based multi-voxel pattern analysis. NeuroImage 65:69-82. "
    "doi:10.1016/j.neuroimage.2012.09.063",
    "prevalence": "Allefeld C., Görgen K., Haynes J.-D. (2016). Valid population inference for "
    "information-based imaging. NeuroImage 141:378-392. doi:10.1016/j.neuroimage.2016.07.040",
}
