"""The publications of the public benchmarks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Citation:
    """One publication.

    Attributes:
        authors: as printed, or the first one with "et al." for more than eight.
        year: of publication.
        title: as printed.
        venue: journal, conference or archive.
    """

    authors: str
    year: int
    title: str
    venue: str


_ISPRS = Citation(
    "Franz Rottensteiner, Gunho Sohn, Jaewook Jung, Markus Gerke, Caroline Baillard, Sebastien Benitez, Uwe Breitkopf",
    2012,
    "The ISPRS benchmark on urban object classification and 3D building reconstruction",
    "ISPRS Annals I-3",
)
_WHU = Citation(
    "Shunping Ji, Shiqing Wei, Meng Lu",
    2019,
    "Fully Convolutional Networks for Multisource Building Extraction From an Open Aerial and Satellite Imagery Data "
    "Set",
    "IEEE Transactions on Geoscience and Remote Sensing 57",
)
_GLOBAL_ROADS = Citation(
    "Xiaoyan Lu, Yanfei Zhong, Zhuo Zheng, Junjue Wang, Dingyuan Chen, Yu Su",
    2024,
    "Global road extraction using a pseudo-label guided framework: from benchmark dataset to cross-region "
    "semi-supervised learning",
    "Geo-spatial Information Science",
)
"""The validation set from which the three road datasets are taken."""

CITATIONS: dict[str, tuple[Citation, ...]] = {
    "rrsis-d": (
        Citation(
            "Sihan Liu, Yiwei Ma, Xiaoqing Zhang, Haowei Wang, Jiayi Ji, Xiaoshuai Sun, Rongrong Ji",
            2024,
            "Rotated Multi-Scale Interaction Network for Referring Remote Sensing Image Segmentation",
            "CVPR, arXiv 2312.12470",
        ),
    ),
    "earthreason": (
        Citation(
            "Kaiyu Li et al.",
            2025,
            "SegEarth-R1: Geospatial Pixel Reasoning via Large Language Model",
            "arXiv 2504.09644",
        ),
    ),
    "refsegrs": (
        Citation(
            "Zhenghang Yuan, Lichao Mou, Yuansheng Hua, Xiao Xiang Zhu",
            2024,
            "RRSIS: Referring Remote Sensing Image Segmentation",
            "IEEE Transactions on Geoscience and Remote Sensing 62, arXiv 2306.08625",
        ),
    ),
    "risbench": (
        Citation(
            "Zhe Dong, Yuzhe Sun, Tianzhu Liu, Wangmeng Zuo, Yanfeng Gu",
            2024,
            "Cross-Modal Bidirectional Interaction Model for Referring Remote Sensing Image Segmentation",
            "arXiv 2410.08613",
        ),
    ),
    "openearthmap": (
        Citation(
            "Junshi Xia, Naoto Yokoya, Bruno Adriano, Clifford Broni-Bediako",
            2023,
            "OpenEarthMap: A Benchmark Dataset for Global High-Resolution Land Cover Mapping",
            "WACV",
        ),
    ),
    "loveda": (
        Citation(
            "Junjue Wang, Zhuo Zheng, Ailong Ma, Xiaoyan Lu, Yanfei Zhong",
            2021,
            "LoveDA: A Remote Sensing Land-Cover Dataset for Domain Adaptive Semantic Segmentation",
            "NeurIPS Datasets and Benchmarks",
        ),
    ),
    "isaid": (
        Citation(
            "Syed Waqas Zamir et al.",
            2019,
            "iSAID: A Large-scale Dataset for Instance Segmentation in Aerial Images",
            "CVPR Workshops",
        ),
    ),
    "potsdam": (_ISPRS,),
    "vaihingen": (_ISPRS,),
    "uavid": (
        Citation(
            "Ye Lyu, George Vosselman, Gui-Song Xia, Alper Yilmaz, Michael Ying Yang",
            2020,
            "UAVid: A semantic segmentation dataset for UAV imagery",
            "ISPRS Journal of Photogrammetry and Remote Sensing 165",
        ),
    ),
    "udd5": (
        Citation(
            "Yu Chen, Yao Wang, Peng Lu, Yisong Chen, Guoping Wang",
            2018,
            "Large-Scale Structure from Motion with Semantic Constraints of Aerial Images",
            "PRCV",
        ),
    ),
    "vdd": (
        Citation(
            "Wenxiao Cai, Ke Jin, Jinyan Hou, Cong Guo, Letian Wu, Wankou Yang",
            2023,
            "VDD: Varied Drone Dataset for Semantic Segmentation",
            "arXiv 2305.13608",
        ),
    ),
    "whu-aerial": (_WHU,),
    "whu-sat2": (_WHU,),
    "inria": (
        Citation(
            "Emmanuel Maggiori, Yuliya Tarabalka, Guillaume Charpiat, Pierre Alliez",
            2017,
            "Can Semantic Labeling Methods Generalize to Any City? The Inria Aerial Image Labeling Benchmark",
            "IGARSS",
        ),
    ),
    "xbd": (
        Citation(
            "Ritwik Gupta et al.",
            2019,
            "xBD: A Dataset for Assessing Building Damage from Satellite Imagery",
            "arXiv 1911.09296",
        ),
    ),
    "chn6-cug": (
        Citation(
            "Qiqi Zhu, Yanan Zhang, Lizeng Wang, Yanfei Zhong, Qingfeng Guan, Xiaoyan Lu, Liangpei Zhang, Deren Li",
            2021,
            "A Global Context-aware and Batch-independent Network for road extraction from VHR satellite imagery",
            "ISPRS Journal of Photogrammetry and Remote Sensing 175",
        ),
    ),
    "deepglobe": (
        Citation(
            "Ilke Demir et al.",
            2018,
            "DeepGlobe 2018: A Challenge to Parse the Earth through Satellite Images",
            "CVPR Workshops",
        ),
        _GLOBAL_ROADS,
    ),
    "massachusetts": (
        Citation(
            "Volodymyr Mnih",
            2013,
            "Machine Learning for Aerial Image Labeling",
            "PhD thesis, University of Toronto",
        ),
        _GLOBAL_ROADS,
    ),
    "spacenet": (
        Citation(
            "Adam Van Etten, Dave Lindenbaum, Todd M. Bacastow",
            2018,
            "SpaceNet: A Remote Sensing Dataset and Challenge Series",
            "arXiv 1807.01232",
        ),
        _GLOBAL_ROADS,
    ),
    "wbs-si": (Citation("Francisco Escobar", 2020, "Satellite Images of Water Bodies", "Kaggle"),),
}
"""By benchmark: the paper of the dataset, and that of the cut which is scored."""
